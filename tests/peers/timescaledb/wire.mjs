// PostgreSQL's frontend/backend protocol 3.0 as bytes (PostgreSQL's manual, "Message Formats"); no I/O.

export const text = (string) => Buffer.from(`${string}\0`);

export function int16(number) {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(number);
  return bytes;
}

export function int32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(number);
  return bytes;
}

/** One message: its type, the length of what follows, its parts. */
export function message(type, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

export const typeOf = (bytes) => String.fromCharCode(bytes[0]);

/** The zero-terminated string that begins at `from`, and where it ends. */
export function textAt(bytes, from) {
  const end = bytes.indexOf(0, from);
  return { string: bytes.toString("utf8", from, end), next: end + 1 };
}

export const query = (sql) => message("Q", text(sql));
export const sync = message("S");
export const copyFail = (reason) => message("f", text(reason));
export const readyForQuery = (status) => message("Z", Buffer.from(status));

export function errorResponse(severity, code, reason) {
  const fields = [`S${severity}`, `V${severity}`, `C${code}`, `M${reason}`];
  return message("E", ...fields.map(text), Buffer.alloc(1));
}

/** What an ErrorResponse says to people. */
export function reasonOf(error) {
  for (let at = 5; error[at] !== 0; ) {
    const field = textAt(error, at);
    if (field.string[0] === "M") return field.string.slice(1);
    at = field.next;
  }
  return "";
}

/** Cuts a stream into messages; the first ones, until `started` is set, have no type. */
export class Frames {
  started = false;
  #rest = Buffer.alloc(0);

  *feed(chunk) {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const before = this.started ? 1 : 0;
      if (this.#rest.length < before + 4) return;
      const length = before + this.#rest.readInt32BE(before);
      if (this.#rest.length < length) return;
      const frame = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(length);
      yield frame;
    }
  }
}

/** The names and values of a startup message. */
export function startupSettings(startup) {
  const found = {};
  for (let at = 8; startup[at]; ) {
    const name = textAt(startup, at);
    const value = textAt(startup, name.next);
    found[name.string] = value.string;
    at = value.next;
  }
  return found;
}

/** What `options` of a startup message sets: `-c name=value` and `--name=value`, blanks within escaped by `\`. */
export function commandLineSettings(options) {
  const words = (options.match(/(?:\\.|[^\s\\])+/g) ?? []).map((word) => word.replace(/\\(.)/g, "$1"));
  const found = {};
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const [, name, value] = /^(?:-c|--)?([\w.-]+)=(.*)$/s.exec(word === "-c" ? (words.shift() ?? "") : word) ?? [];
    if (name) found[name.replaceAll("-", "_")] = value;
  }
  return found;
}
