// Markdown to DOM nodes. The text of a model is data: every node is made from text, nothing from markup.

import { codeBlock } from "./code.js";
import { h, scrollable } from "./dom.js";
import { inline } from "./inline.js";

const MAX_DEPTH = 10;
const FENCE = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const TASK = /^\[([ xX])\] /;
const DELIMITERS = /^ *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;
const MAX_DELIMITERS = 1000;

const isBlank = (line) => line.trim() === "";

/** A block is the lines that it has in the source and a function that makes its node. */
const block = (lines, render) => ({ source: lines.join("\n"), render });

/** Split lines into blocks. */
function blocks(lines, depth) {
	const found = [];
	let at = 0;
	while (at < lines.length) {
		if (isBlank(lines[at])) {
			at += 1;
			continue;
		}
		const read = READERS.find(({ begins }) => begins(lines, at)) ?? PARAGRAPH;
		const end = depth < MAX_DEPTH ? read.end(lines, at) : lines.length;
		const own = lines.slice(at, end);
		found.push(block(own, depth < MAX_DEPTH ? () => read.render(own, depth) : () => PARAGRAPH.render(own)));
		at = end;
	}
	return found;
}

const nodes = (lines, depth) => blocks(lines, depth + 1).map((one) => one.render());

/** Return the end of the lines from `at` that satisfy `test`. */
function while_(lines, at, test) {
	while (at < lines.length && test(lines[at], at)) at += 1;
	return at;
}

const fence = {
	begins: (lines, at) => FENCE.test(lines[at]),
	end(lines, at) {
		const [, marks] = FENCE.exec(lines[at]);
		const closes = (line) => line.trim().startsWith(marks) && line.trim().replaceAll(marks[0], "") === "";
		return Math.min(while_(lines, at + 1, (line) => !closes(line)) + 1, lines.length);
	},
	render(lines) {
		const [, marks, language] = FENCE.exec(lines[0]);
		const indent = /^ */.exec(lines[0])[0].length;
		const last = lines.length > 1 && lines.at(-1).trim().startsWith(marks) ? -1 : undefined;
		const content = lines.slice(1, last).map((line) => line.slice(Math.min(indent, /^ */.exec(line)[0].length)));
		return codeBlock(content.join("\n"), language.trim().split(/\s/)[0]);
	},
};

const heading = {
	begins: (lines, at) => HEADING.test(lines[at]),
	end: (_, at) => at + 1,
	render([line]) {
		const [, marks, text] = HEADING.exec(line);
		let end = text.length;
		while (end > 0 && "# \t".includes(text[end - 1])) end -= 1;
		// Level one belongs to the page.
		return h(`h${Math.min(6, marks.length + 1)}`, { class: `level-${marks.length}` }, inline(text.slice(0, end)));
	},
};

const rule = {
	begins: (lines, at) => RULE.test(lines[at]),
	end: (_, at) => at + 1,
	render: () => h("hr"),
};

const quote = {
	begins: (lines, at) => QUOTE.test(lines[at]),
	end: (lines, at) => while_(lines, at, (line) => QUOTE.test(line)),
	render: (lines, depth) => h("blockquote", nodes(lines.map((line) => line.replace(QUOTE, "")), depth)),
};

const isOrdered = (mark) => mark.length > 1;

const list = {
	begins: (lines, at) => ITEM.test(lines[at]),
	end(lines, at) {
		const [, indent, mark] = ITEM.exec(lines[at]);
		return while_(lines, at + 1, (line, here) => {
			if (isBlank(line)) return here + 1 < lines.length && list.continues(lines[here + 1], indent.length, mark);
			return list.continues(line, indent.length, mark) || (!isBlank(lines[here - 1]) && !interrupts(lines, here));
		});
	},
	/** Return whether a line is of the list's item, or begins its next one. */
	continues(line, indent, mark) {
		const item = ITEM.exec(line);
		const width = /^ */.exec(line)[0].length;
		return width > indent + 1 || (item !== null && width >= indent && isOrdered(item[2]) === isOrdered(mark) && !RULE.test(line));
	},
	render(lines, depth) {
		const [, indent, mark] = ITEM.exec(lines[0]);
		const items = [];
		for (const line of lines) {
			const found = ITEM.exec(line);
			if (found !== null && found[1].length <= indent.length + 1) {
				const width = found[0].length - Math.max(0, found[3].length - 4);
				items.push({ width, lines: [line.slice(width)] });
			} else {
				const { width, lines: own } = items.at(-1);
				own.push(line.slice(Math.min(width, /^ */.exec(line)[0].length)));
			}
		}
		const start = isOrdered(mark) ? Number.parseInt(mark, 10) : 1;
		return h(isOrdered(mark) ? "ol" : "ul", { start: start === 1 ? null : start }, items.map((item) => listItem(item.lines, depth)));
	},
};

function listItem(lines, depth) {
	const task = TASK.exec(lines[0]);
	const box = task && h("span.task", { role: "img", "aria-label": task[1] === " " ? "open" : "done" }, task[1] === " " ? "☐" : "☑");
	const own = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
	// An item of one paragraph, and lists below it, stands close to its neighbours.
	const children = nodes(own, depth).map((node) => (node.tagName === "P" && !own.some(isBlank) ? h("span", [...node.childNodes]) : node));
	return h(task ? "li.with-task" : "li", box, children);
}

/** Return the cells of a row of a table. */
function cells(line) {
	const row = line.trim().replace(/^\|/, "");
	const found = row.match(/(?:\\.|[^|\\])+|\|/g) ?? [];
	const texts = [""];
	for (const part of found) {
		if (part === "|") texts.push("");
		else texts[texts.length - 1] += part.replaceAll("\\|", "|");
	}
	if (row.endsWith("|") && texts.length > 1) texts.pop();
	return texts.map((text) => text.trim());
}

const table = {
	begins(lines, at) {
		const next = lines[at + 1] ?? "";
		return lines[at].includes("|") && next.length < MAX_DELIMITERS && next.includes("-") && DELIMITERS.test(next) && next.includes("|");
	},
	end: (lines, at) => while_(lines, at + 2, (line) => !isBlank(line) && line.includes("|")),
	render([head, delimiters, ...rows]) {
		const sides = cells(delimiters).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : null));
		const row = (line, tag) =>
			h("tr", cells(line).slice(0, sides.length).map((cell, at) => h(tag, { class: sides[at], scope: tag === "th" ? "col" : null }, inline(cell))));
		const body = h("tbody", rows.map((line) => row(line, "td")));
		return scrollable("div.table", "Table", h("table", h("thead", row(head, "th")), body));
	},
};

/** Return whether a line ends the paragraph before it. */
function interrupts(lines, at) {
	const item = ITEM.exec(lines[at]);
	return (
		isBlank(lines[at]) ||
		[fence, heading, rule, quote].some((one) => one.begins(lines, at)) ||
		(item !== null && item[3] !== "" && (!isOrdered(item[2]) || Number.parseInt(item[2], 10) === 1))
	);
}

const PARAGRAPH = {
	end: (lines, at) => while_(lines, at + 1, (_, here) => !interrupts(lines, here) && !table.begins(lines, here)),
	render: (lines) => h("p", inline(lines.map((line) => line.trim()).join("\n"))),
};

const READERS = [fence, heading, rule, quote, list, table];

/** Container of Markdown that grows: only the blocks that have changed are made again. */
export class Markdown {
	#shown = [];

	constructor(element) {
		this.element = element;
	}

	show(text) {
		const wanted = blocks(text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"), 0);
		let same = 0;
		while (same < wanted.length && this.#shown[same]?.source === wanted[same].source) same += 1;
		for (const { node } of this.#shown.splice(same)) node.remove();
		for (const { source, render } of wanted.slice(same)) {
			const node = render();
			this.element.append(node);
			this.#shown.push({ source, node });
		}
	}
}
