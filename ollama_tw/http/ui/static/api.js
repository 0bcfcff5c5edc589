// Requests to the server that serves this page, over HTTP and WebSocket, with the key of this tab.

const API = new URL("../api/", import.meta.url);
const STORED = "ollama-key";

/** Failure of a request; `status` is 0 where the server was not reached. */
export class ApiError extends Error {
	constructor(status, message) {
		super(message);
		this.status = status;
	}
}

const UNREACHABLE = "The server cannot be reached.";

let askForKey = async () => null;
let asking = null;
let declined = false;

/** Have `ask(refused)` called where the server wants a key; it resolves to one, or to null. */
export function onKeyNeeded(ask) {
	askForKey = ask;
}

/** Return the key of this tab, or null. */
export const key = () => sessionStorage.getItem(STORED);

/** Keep a key for this tab; null forgets it. */
export function setKey(given) {
	if (given === null) sessionStorage.removeItem(STORED);
	else sessionStorage.setItem(STORED, given);
}

/** Ask for a key, once for all requests that wait for it, and not again if none is given. Resolves to whether there is another. */
function renewKey(used) {
	if (key() !== used) return Promise.resolve(true);
	if (declined) return Promise.resolve(false);
	asking ??= askForKey(used !== null).then((given) => {
		asking = null;
		declined = given === null;
		if (given !== null) setKey(given);
		return given !== null;
	});
	return asking;
}

/** Return the path's URL: below /api/, or of the root for paths that begin with a slash. */
const address = (path) => new URL(path.startsWith("/") ? `..${path}` : path, API);

/** Send a request and return the response; throws ApiError for any status that is no success. */
export async function request(method, path, body, signal) {
	for (;;) {
		const used = key();
		const headers = used === null ? {} : { Authorization: `Bearer ${used}` };
		let response;
		try {
			response = await fetch(address(path), { method, headers, body: body && JSON.stringify(body), signal });
		} catch (error) {
			if (error.name === "AbortError") throw error;
			throw new ApiError(0, UNREACHABLE);
		}
		if (response.ok) return response;
		if (response.status === 401 && (await renewKey(used))) continue;
		throw new ApiError(response.status, await reason(response));
	}
}

async function reason(response) {
	const text = await response.text().catch(() => "");
	try {
		const { error } = JSON.parse(text);
		return String(error.message ?? error);
	} catch {
		return text || `The server answered with status ${response.status}.`;
	}
}

export const getJSON = async (path, signal) => (await request("GET", path, undefined, signal)).json();

const ended = (record) => record.done === true || record.status === "success" || "error" in record;

/** One WebSocket at an endpoint of the API, opened for the first stream, and shared by all. */
export class Streams {
	#path;
	#socket = null;
	#opening = null;
	#lastId = 0;
	#running = new Map();

	/** `onchange` is called when the socket opens or closes. */
	constructor(path, onchange = () => {}) {
		this.#path = path;
		this.onchange = onchange;
	}

	get open() {
		return this.#socket?.readyState === WebSocket.OPEN;
	}

	connect() {
		this.#opening ??= this.#connect().finally(() => (this.#opening = null));
		return this.#opening;
	}

	async #connect() {
		if (this.open) return;
		// The handshake does not tell why it failed: a request before it asks for the key, or says what is wrong.
		await request("GET", "tags");
		const url = address(this.#path);
		url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
		const used = key();
		const socket = new WebSocket(url, ["ollama.v1", ...(used === null ? [] : [`ollama.key.${used}`])]);
		await new Promise((resolve, reject) => {
			socket.onopen = resolve;
			socket.onclose = () => reject(new ApiError(0, "The WebSocket was refused: is there a proxy that does not pass it on?"));
		});
		socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
		socket.onclose = () => {
			this.#socket = null;
			const running = [...this.#running.values()];
			this.#running.clear();
			for (const { reject } of running) reject(new ApiError(0, "The connection was lost."));
			this.onchange();
		};
		this.#socket = socket;
		this.onchange();
	}

	#receive(record) {
		const { id, ...rest } = record;
		const stream = this.#running.get(id);
		if (stream === undefined) return;
		if (!ended(rest)) {
			stream.onrecord(rest);
			return;
		}
		this.#running.delete(id);
		// The key is not valid any more: the next connection asks for another.
		if (rest.status === 401) this.#socket.close();
		if ("error" in rest) stream.reject(new ApiError(rest.status ?? 500, String(rest.error)));
		else stream.resolve(rest);
	}

	/**
	 * Send a request. `onrecord` gets each record but the last one, to which the promise resolves; it
	 * rejects with ApiError. Aborting `signal` cancels the request: its last record says so.
	 */
	async stream(body, onrecord, signal) {
		await this.connect();
		signal?.throwIfAborted();
		const id = (this.#lastId += 1);
		const last = new Promise((resolve, reject) => this.#running.set(id, { onrecord, resolve, reject }));
		this.#socket.send(JSON.stringify({ ...body, id }));
		signal?.addEventListener("abort", () => this.#running.has(id) && this.#socket.send(JSON.stringify({ id, cancel: true })));
		return last;
	}
}
