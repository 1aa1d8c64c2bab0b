/** Brokers of the tests: virtual hosts of the node that the run shares (`make test` starts it). */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Orkestra, type OrkestraOptions } from "orkestra";
import { onTestFinished } from "vitest";

const { ORKESTRA_TEST_AMQP: url, ORKESTRA_TEST_RABBITMQ: node } = process.env;
const script = fileURLToPath(new URL("../../scripts/rabbitmq.sh", import.meta.url));

/** Whether there is a node; said where there is none, and a failure where one is required. */
export function hasBroker(): boolean {
  if (url && node) return true;
  if (process.env.ORKESTRA_TEST_REQUIRE?.split(",").includes("rabbitmq")) {
    throw new Error("ORKESTRA_TEST_REQUIRE names rabbitmq, but ORKESTRA_TEST_AMQP is not set");
  }
  process.stderr.write("skipped: no broker (ORKESTRA_TEST_AMQP, ORKESTRA_TEST_RABBITMQ)\n");
  return false;
}

/** What `rabbitmq.sh COMMAND node ARGUMENTS` prints. */
function rabbitmq(command: string, ...args: string[]): string {
  return execFileSync(script, [command, node ?? "", ...args], { encoding: "utf8" });
}

let hosts = 0;

/** A virtual host of a test, so that it has every name to itself; deleted when the test ends. */
export class VirtualHost {
  readonly name = `node-${process.pid}-${++hosts}`;
  readonly url: string;

  constructor() {
    rabbitmq("vhost", this.name);
    this.url = `${(url ?? "").slice(0, (url ?? "").lastIndexOf("/"))}/${this.name}`;
    onTestFinished(() => {
      rabbitmq("eval", `rabbit_vhost:delete(<<"${this.name}">>, <<"guest">>).`);
    });
  }

  /** An app on it, closed when the test ends. In memory but for the bus, unless `options` say otherwise. */
  app(name = "shop", options: OrkestraOptions & { readonly query?: string } = {}): Orkestra {
    const { query = "", ...rest } = options;
    const bus = `${this.url}${query}`;
    const app = new Orkestra(name, { bus, store: "memory:", appPrefix: "Shop", env: {}, ...rest });
    onTestFinished(() => app.close());
    return app;
  }

  /** Publishes bytes that need be no message of ours. */
  publish(
    exchange: string,
    routingKey: string,
    body: string,
    headers: Readonly<Record<string, string>> = {},
  ): void {
    const bytes = [...Buffer.from(body)].join(",");
    const named = Object.entries(headers).map(([k, v]) => `{<<"${k}">>, longstr, <<"${v}">>}`);
    rabbitmq(
      "eval",
      `rabbit_basic:publish(rabbit_misc:r(<<"${this.name}">>, exchange, <<"${exchange}">>), <<"${routingKey}">>, [{delivery_mode, 2}, {headers, [${named}]}], <<${bytes}>>).`,
    );
  }

  /** The broker closes every connection. */
  closeConnections(): void {
    rabbitmq(
      "eval",
      `[rabbit_networking:close_connection(element(6, C), "closed by a test") || C <- rabbit_connection_tracking:list(<<"${this.name}">>)].`,
    );
  }
}
