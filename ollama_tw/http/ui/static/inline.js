// Inline Markdown to DOM nodes, in one pass over the text: emphasis, code, links, line breaks. Whatever is not
// understood is text. Links lead to web and mail addresses only; images are links, since they would be fetched.

import { h, visible } from "./dom.js";

const MAX_DEPTH = 24;
const MAX_LENGTH = 50000;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const DESTINATION = /\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+"([^"]*)")?\s*\)/y;
const ADDRESS = /https?:\/\/[^\s<>"`]+/y;
const TRAILING = new Set(".,;:!?'*_~])");
const SPACE = /\s/;
const WORD = /[\p{L}\p{N}]/u;
const PLAIN = /[^\\`*_~[\]!<h\n]+/y;
const TAGS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };

/** Return `address` if a link may lead to it, else null. */
function safe(address) {
	try {
		const url = new URL(address);
		return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
	} catch {
		return null;
	}
}

function link(address, children) {
	return h("a", { href: address, title: visible(address), target: "_blank", rel: "noopener noreferrer nofollow" }, children);
}

/** Return the positions of the ends of code spans by the positions of their beginnings. */
function codeSpans(text) {
	const runs = [...text.matchAll(/`+/g)];
	const next = new Map();
	const ends = new Map();
	for (const run of runs.reverse()) {
		const size = run[0].length;
		if (next.has(size)) ends.set(run.index, next.get(size));
		next.set(size, run.index);
	}
	return ends;
}

/** Parser of one paragraph: `frames` are the open brackets and marks of emphasis, the outermost first. */
class Inline {
	#text;
	#at = 0;
	#frames = [{ mark: "", nodes: [] }];
	#spans;

	constructor(text) {
		this.#text = text;
		this.#spans = codeSpans(text);
	}

	nodes() {
		while (this.#at < this.#text.length) this.#step();
		while (this.#frames.length > 1) this.#unwrap();
		return this.#frames[0].nodes;
	}

	#add(node) {
		const { nodes } = this.#frames.at(-1);
		const last = nodes.at(-1);
		if (typeof node === "string" && typeof last === "string") nodes[nodes.length - 1] = last + node;
		else nodes.push(node);
	}

	/** Turn the innermost open mark into text. */
	#unwrap() {
		const { mark, nodes } = this.#frames.pop();
		this.#add(mark);
		nodes.forEach((node) => this.#add(node));
	}

	#open(mark) {
		if (this.#frames.length > MAX_DEPTH) this.#add(mark);
		else this.#frames.push({ mark, nodes: [] });
	}

	/** Return the nodes of the innermost open `mark`, whose unclosed marks become text; null if none is open. */
	#close(...marks) {
		if (!this.#frames.some(({ mark }) => marks.includes(mark))) return null;
		while (!marks.includes(this.#frames.at(-1).mark)) this.#unwrap();
		return this.#frames.pop();
	}

	#step() {
		const text = this.#text;
		const one = text[this.#at];
		PLAIN.lastIndex = this.#at;
		const plain = PLAIN.exec(text);
		if (plain !== null) {
			this.#at += plain[0].length;
			this.#add(plain[0]);
		} else if (one === "\\" && ESCAPABLE.test(text[this.#at + 1] ?? "")) {
			this.#add(text[this.#at + 1]);
			this.#at += 2;
		} else if (one === "\n" || text.startsWith("\\\n", this.#at)) {
			this.#at += one === "\n" ? 1 : 2;
			this.#add(h("br"));
		} else if (one === "`") this.#code();
		else if (one in TAGS || one === "~") this.#emphasis(one);
		else if (one === "[" || (one === "!" && text[this.#at + 1] === "[")) {
			const mark = one === "[" ? "[" : "![";
			this.#at += mark.length;
			this.#open(mark);
		} else if (one === "]") this.#link();
		else if (one === "h" && this.#address(text)) return;
		else {
			this.#add(one);
			this.#at += 1;
		}
	}

	#code() {
		const size = /`+/y;
		size.lastIndex = this.#at;
		const [ticks] = size.exec(this.#text);
		const begin = this.#at + ticks.length;
		const end = this.#spans.get(this.#at);
		this.#at = begin;
		if (end === undefined) {
			this.#add(ticks);
			return;
		}
		const content = this.#text.slice(begin, end).replaceAll("\n", " ");
		const padded = content.startsWith(" ") && content.endsWith(" ") && content.trim() !== "";
		this.#add(h("code", visible(padded ? content.slice(1, -1) : content)));
		this.#at = end + ticks.length;
	}

	#emphasis(one) {
		const text = this.#text;
		let end = this.#at;
		while (text[end] === one) end += 1;
		const run = text.slice(this.#at, end);
		const before = text[this.#at - 1] ?? " ";
		const after = text[end] ?? " ";
		this.#at = end;
		const inWord = one === "_" && WORD.test(before) && WORD.test(after);
		if (run.length > 3 || inWord || (one === "~" && run.length !== 2)) {
			this.#add(run);
			return;
		}
		const marks = run.length === 3 ? [one + one, one] : [run];
		let closed = 0;
		if (!SPACE.test(before)) {
			for (const mark of run.length === 3 ? [...marks].reverse() : marks) {
				const frame = this.#frames.at(-1).nodes.length > 0 || this.#frames.at(-1).mark !== mark ? this.#close(mark) : null;
				if (frame === null) break;
				this.#add(h(TAGS[mark], {}, frame.nodes.map(shown)));
				closed += 1;
			}
		}
		if (closed === 0) {
			if (SPACE.test(after)) this.#add(run);
			else marks.forEach((mark) => this.#open(mark));
		} else if (closed < marks.length) this.#add(one);
	}

	#link() {
		this.#at += 1;
		DESTINATION.lastIndex = this.#at;
		const found = DESTINATION.exec(this.#text);
		const address = found && safe(found[1]);
		const frame = found && this.#close("[", "![");
		if (!frame) {
			this.#add("]");
			return;
		}
		this.#at += found[0].length;
		if (address !== null) this.#add(link(address, frame.nodes.length > 0 ? frame.nodes.map(shown) : visible(address)));
		else {
			this.#add(frame.mark);
			frame.nodes.forEach((node) => this.#add(node));
			this.#add(`]${found[0]}`);
		}
	}

	/** Add the address that begins here, without the punctuation that ends its sentence; return false if none does. */
	#address(text) {
		ADDRESS.lastIndex = this.#at;
		const found = ADDRESS.exec(text);
		if (found === null || WORD.test(text[this.#at - 1] ?? " ") || this.#frames.some(({ mark }) => mark.endsWith("["))) return false;
		const [whole] = found;
		let end = whole.length;
		while (TRAILING.has(whole[end - 1]) && !(whole[end - 1] === ")" && whole.includes("("))) end -= 1;
		const address = whole.slice(0, end);
		const target = safe(address);
		if (target === null) return false;
		this.#add(link(target, visible(address)));
		this.#at += address.length;
		return true;
	}
}

const shown = (node) => (typeof node === "string" ? visible(node) : node);

/** Return the DOM nodes of inline Markdown. Texts of extreme length are not parsed. */
export function inline(text) {
	if (text.length > MAX_LENGTH) return [visible(text)];
	return new Inline(text).nodes().map(shown);
}
