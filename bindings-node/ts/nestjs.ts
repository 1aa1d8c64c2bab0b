/**
 * Orkestra inside a NestJS service: started when the service is, closed when it ends.
 *
 * @example
 * ```ts
 * import { CommandHandler, EventHandler, InjectOrkestra, OrkestraModule } from "orkestra/nestjs";
 *
 * @Injectable()
 * class Orders {
 *   @CommandHandler(PlaceOrder, { maxRetries: 2 })
 *   async place(command: CommandOf<typeof PlaceOrder>) { … }
 *
 *   @EventHandler(OrderPlaced, { name: "send_confirmation" })
 *   async confirm(event: EventOf<typeof OrderPlaced>) { … }
 * }
 *
 * @Module({ imports: [OrkestraModule.forRoot({ name: "Shop", store: "postgres://…" })], providers: [Orders] })
 * export class AppModule {}
 * ```
 *
 * @packageDocumentation
 */
import {
  type DynamicModule,
  type FactoryProvider,
  Inject,
  Module,
  type ModuleMetadata,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  SetMetadata,
} from "@nestjs/common";
import { DiscoveryModule, DiscoveryService, MetadataScanner } from "@nestjs/core";
import { Orkestra } from "./app.js";
import { InvalidHandlerError } from "./errors.js";
import type { EventHandlerOptions, EventSelector, HandlerOptions } from "./handlers.js";
import type { CommandType } from "./message.js";
import type { OrkestraOptions } from "./settings.js";

/** What the app of a service is made of. */
export interface OrkestraModuleOptions extends OrkestraOptions {
  /** The app's name. */
  readonly name: string;
  /** Adds what is no method of a provider: aggregates, projections, groups of handlers, middleware. Before the start. */
  readonly setup?: (app: Orkestra) => unknown;
}

/** Options that other providers make. */
export interface OrkestraModuleAsyncOptions extends Pick<ModuleMetadata, "imports"> {
  /** The providers that `useFactory` takes. */
  readonly inject?: NonNullable<FactoryProvider["inject"]>;
  /** Makes the options. */
  // biome-ignore lint/suspicious/noExplicitAny: Nest gives what `inject` names, which types cannot follow
  readonly useFactory: (...given: any[]) => OrkestraModuleOptions | Promise<OrkestraModuleOptions>;
}

const OPTIONS = Symbol("orkestra options");
const COMMAND = Symbol("orkestra command handler");
const EVENT = Symbol("orkestra event handler");

interface CommandMark {
  readonly type: CommandType<unknown, unknown, unknown>;
  readonly options: HandlerOptions;
}

interface EventMark {
  readonly selector: EventSelector;
  readonly options: EventHandlerOptions;
}

/** Makes a provider's method the one handler of a command. */
export function CommandHandler<Input, Output, Result>(
  type: CommandType<Input, Output, Result>,
  options: HandlerOptions = {},
): MethodDecorator {
  return SetMetadata(COMMAND, { type, options });
}

/** Makes a provider's method a handler of events. It is named after the method unless `options` say otherwise. */
export function EventHandler(
  selector: EventSelector,
  options: EventHandlerOptions = {},
): MethodDecorator {
  return SetMetadata(EVENT, { selector, options });
}

/** Injects the app. Where types are emitted as metadata, a parameter of type `Orkestra` is enough. */
export const InjectOrkestra = (): ParameterDecorator & PropertyDecorator => Inject(Orkestra);

/** Gives the whole service one app. */
// biome-ignore lint/complexity/noStaticOnlyClass: what Nest calls a module
export class OrkestraModule {
  /** With options that are there. */
  static forRoot(options: OrkestraModuleOptions): DynamicModule {
    return OrkestraModule.forRootAsync({ useFactory: () => options });
  }

  /** With options that other providers make. */
  static forRootAsync({
    imports = [],
    inject = [],
    useFactory,
  }: OrkestraModuleAsyncOptions): DynamicModule {
    const options: FactoryProvider = { provide: OPTIONS, inject, useFactory };
    const app: FactoryProvider = {
      provide: Orkestra,
      inject: [OPTIONS],
      useFactory: ({ name, setup: _, ...rest }: OrkestraModuleOptions) => new Orkestra(name, rest),
    };
    const life: FactoryProvider = {
      provide: Life,
      inject: [Orkestra, OPTIONS, DiscoveryService, MetadataScanner],
      useFactory: (...given: ConstructorParameters<typeof Life>) => new Life(...given),
    };
    return {
      module: OrkestraModule,
      global: true,
      imports: [DiscoveryModule, ...imports],
      providers: [options, app, life],
      exports: [Orkestra],
    };
  }
}
Module({})(OrkestraModule);

/** Starts the app with the service and closes it when the last request is answered. */
class Life implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #app: Orkestra;
  readonly #options: OrkestraModuleOptions;
  readonly #discovery: DiscoveryService;
  readonly #scanner: MetadataScanner;

  constructor(
    app: Orkestra,
    options: OrkestraModuleOptions,
    discovery: DiscoveryService,
    scanner: MetadataScanner,
  ) {
    this.#app = app;
    this.#options = options;
    this.#discovery = discovery;
    this.#scanner = scanner;
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.#options.setup?.(this.#app);
    // A provider may have several names.
    const found = new Set<object>();
    for (const wrapper of [
      ...this.#discovery.getProviders(),
      ...this.#discovery.getControllers(),
    ]) {
      // One that is made for each request has no instance now, and the app calls outside of any.
      if (!wrapper.isDependencyTreeStatic()) this.#refuse(wrapper.metatype);
      else if (isObject(wrapper.instance)) found.add(wrapper.instance);
    }
    for (const instance of found) this.#register(instance);
    await this.#app.start();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#app.close();
  }

  #register(instance: object): void {
    for (const name of this.#scanner.getAllMethodNames(Object.getPrototypeOf(instance))) {
      const method: unknown = Reflect.get(instance, name);
      if (typeof method !== "function") continue;
      const { command, event } = marksOf(method);
      const call = method.bind(instance);
      if (command !== undefined) this.#app.commandHandler(command.type, call, command.options);
      if (event !== undefined) {
        this.#app.eventHandler(event.selector, call, { name, ...event.options });
      }
    }
  }

  #refuse(kind: unknown): void {
    if (typeof kind !== "function" || !isObject(kind.prototype)) return;
    for (const name of this.#scanner.getAllMethodNames(kind.prototype)) {
      const { command, event } = marksOf(kind.prototype[name]);
      if (command === undefined && event === undefined) continue;
      const handler = `${kind.name}.${name}`;
      const reason =
        "expected a provider that lives as long as the app, found one made for each request";
      throw new InvalidHandlerError(`handler ${handler}: ${reason}`, { handler, reason });
    }
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function marksOf(method: unknown): { command?: CommandMark; event?: EventMark } {
  if (typeof method !== "function") return {};
  return {
    command: Reflect.getMetadata(COMMAND, method),
    event: Reflect.getMetadata(EVENT, method),
  };
}
