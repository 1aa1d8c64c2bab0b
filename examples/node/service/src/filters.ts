/** What the caller is told of what Orkestra throws. */
import { type ArgumentsHost, Catch, type ExceptionFilter } from "@nestjs/common";
import { NotCaughtUpError, RejectedError } from "orkestra";

interface Answer {
  status(code: number): Answer;
  header(name: string, value: string): Answer;
  json(body: unknown): unknown;
}

const answer = (host: ArgumentsHost): Answer => host.switchToHttp().getResponse<Answer>();

/** The aggregate refused. */
@Catch(RejectedError)
export class Refused implements ExceptionFilter<RejectedError> {
  catch({ details }: RejectedError, host: ArgumentsHost): void {
    answer(host).status(409).json({ error: details.reason, data: details.data });
  }
}

/** The view is not that far yet. */
@Catch(NotCaughtUpError)
export class TooEarly implements ExceptionFilter<NotCaughtUpError> {
  catch({ message }: NotCaughtUpError, host: ArgumentsHost): void {
    answer(host).status(503).header("retry-after", "1").json({ error: message });
  }
}
