// Code blocks with a button that copies them, and with quiet colours for comments, strings, numbers and keywords.

import { copyButton, h, scrollable, visible } from "./dom.js";

const MAX_COLOURED = 30000;

const KEYWORDS = new Set(
	(
		"and as async await bool break case catch char class const continue data def default defer del do done " +
		"double elif else end enum esac except export extends false fi final finally fn for foreach from func " +
		"function global go if impl implements import in int interface is lambda let local long match mod module " +
		"move mut namespace new nil none not null of or override package pass private protected pub public raise " +
		"readonly ref return self static str string struct super switch then this throw throws trait true try " +
		"type typedef typeof union unless unsigned until use using var virtual void when where while with yield " +
		"None True False select insert update join left right inner outer on group by order having limit values " +
		"into create table"
	).split(" "),
);
const PLAIN_LANGUAGES = new Set(["", "text", "txt", "plain", "plaintext", "markdown", "md", "output"]);
const HASH = new Set("python py bash sh shell zsh console ruby rb perl yaml yml toml ini r make makefile dockerfile elixir powershell nix".split(" "));
const DASHES = new Set(["sql", "lua", "haskell", "hs", "ada", "elm"]);
const MARKUP = new Set(["html", "xml", "svg", "vue"]);

const STRING = String.raw`"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|${"`"}(?:[^${"`"}\\]|\\.)*${"`"}?`;
const NUMBER = String.raw`\b\d[\w.]*`;
const NAME = String.raw`[A-Za-z_$][\w$]*`;

function pattern(language) {
	let comment = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
	let string = STRING;
	if (HASH.has(language)) {
		comment = String.raw`#[^\n]*`;
		string = String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|${STRING}`;
	} else if (DASHES.has(language)) comment = String.raw`--[^\n]*`;
	else if (MARKUP.has(language)) {
		comment = String.raw`<!--[\s\S]*?(?:-->|$)`;
		return new RegExp(`(?<comment>${comment})|(?<keyword><\\/?[A-Za-z][\\w:-]*|\\/?>)|(?<string>"[^"\\n]*"?|'[^'\\n]*'?)|(?<name>[\\w-]+)`, "g");
	}
	return new RegExp(`(?<comment>${comment})|(?<string>${string})|(?<number>${NUMBER})|(?<name>${NAME})`, "g");
}

/** Return `code` as texts and spans of colour. */
function coloured(code, language) {
	const found = [];
	let end = 0;
	const add = (kind, text) => found.push(h("span", { class: `code-${kind}` }, text));
	for (const { groups, index, 0: text } of code.matchAll(pattern(language))) {
		if (index > end) found.push(code.slice(end, index));
		end = index + text.length;
		const kind = ["comment", "string", "number", "keyword"].find((name) => groups[name] !== undefined);
		if (kind !== undefined) add(kind, text);
		else if (!MARKUP.has(language) && KEYWORDS.has(language === "sql" ? text.toLowerCase() : text)) add("keyword", text);
		else if (code[end] === "(") add("call", text);
		else found.push(text);
	}
	found.push(code.slice(end));
	return found;
}

/** Return a block of code. `language` is what the model calls it. */
export function codeBlock(code, language) {
	const shown = visible(code);
	const name = visible(language).slice(0, 30);
	const plain = shown.length > MAX_COLOURED || PLAIN_LANGUAGES.has(name.toLowerCase());
	return h(
		"figure.code",
		h("figcaption", h("span", name || "code"), copyButton(() => shown, "Copy the code")),
		scrollable("pre", `Code, ${name || "no language"}`, h("code", plain ? shown : coloured(shown, name.toLowerCase()))),
	);
}
