// Typed events.

export type Listener<T> = (event: T) => unknown;

export class Emitter<Events> {
  private readonly _listeners = new Map<keyof Events, Set<Listener<never>>>();

  on<K extends keyof Events>(name: K, listener: Listener<Events[K]>): void {
    let set = this._listeners.get(name);
    if (!set) this._listeners.set(name, (set = new Set()));
    set.add(listener as Listener<never>);
  }

  off<K extends keyof Events>(name: K, listener: Listener<Events[K]>): void {
    this._listeners.get(name)?.delete(listener as Listener<never>);
  }

  /**
   * Calls every listener. One that fails is reported like any uncaught error and disturbs nobody.
   *
   * @returns a promise when a listener returned one; it never rejects
   */
  emit<K extends keyof Events>(name: K, event: Events[K]): Promise<unknown> | undefined {
    const waiting: PromiseLike<unknown>[] = [];
    for (const listener of [...(this._listeners.get(name) ?? [])] as Listener<Events[K]>[]) {
      try {
        const result = listener(event) as PromiseLike<unknown> | undefined;
        if (typeof result?.then === 'function') waiting.push(result);
      } catch (error) {
        report(error);
      }
    }
    if (waiting.length === 0) return undefined;
    return Promise.all(waiting.map((one) => one.then(undefined, report)));
  }
}

function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error);
}
