// Elements, made from text nodes and attributes only: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

// C0 and C1 control characters except tab and line feed, and those that reorder the text around them.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** Return `text` with symbols in place of control characters. */
export function visible(text) {
	return text.replace(CONTROLS, (one) => {
		const code = one.charCodeAt(0);
		if (code < 0x20) return String.fromCharCode(0x2400 + code);
		return code === 0x7f ? "\u2421" : `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
	});
}

function fill(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes)) {
		if (value === undefined || value === null || value === false) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else element.setAttribute(name, value === true ? "" : value);
	}
	for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(child);
	return element;
}

const isAttributes = (value) => Object.getPrototypeOf(value ?? "") === Object.prototype;

/**
 * Return an HTML element. `name` is its tag and classes, `p.summary`. An object after it has its attributes;
 * those that begin with `on` are listeners. Strings among the children become text.
 */
export function h(name, ...rest) {
	const [tag, ...classes] = name.split(".");
	const element = document.createElement(tag);
	if (classes.length > 0) element.className = classes.join(" ");
	const attributes = isAttributes(rest[0]) ? rest.shift() : {};
	return fill(element, attributes, rest);
}

export function svg(tag, attributes = {}, ...children) {
	return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
	attach: ["M20 11.5 12.6 19a4.6 4.6 0 0 1-6.5-6.5l8-8a3.1 3.1 0 0 1 4.4 4.4l-7.9 8a1.5 1.5 0 0 1-2.2-2.2l7-7"],
	close: ["M6 6l12 12M18 6 6 18"],
	copy: ["M9 9h10v10H9z", "M15 9V5H5v10h4"],
	done: ["M5 12.5 10 17l9-10"],
	down: ["M12 5v14M6 13l6 6 6-6"],
	edit: ["M5 19h3.5L19 8.5 15.5 5 5 15.5z"],
	key: ["M10.5 13.5 19 5M15.5 8.5l2.5 2.5M10.6 13.4a3.6 3.6 0 1 1-5.1 5.1 3.6 3.6 0 0 1 5.1-5.1z"],
	moon: ["M20 14.2A8 8 0 0 1 9.8 4 8 8 0 1 0 20 14.2z"],
	plus: ["M12 5v14M5 12h14"],
	again: ["M19 12a7 7 0 1 1-2.1-5", "M17.5 3v4.4h-4.4"],
	send: ["M12 19V5M6 11l6-6 6 6"],
	settings: ["M4 7h9M19 7h1M4 17h1M11 17h9", "M16 4.8v4.4M8 14.8v4.4"],
	stop: ["M7.5 7.5h9v9h-9z"],
	sun: ["M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8z", "M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"],
	tool: ["M14.5 6.5a4 4 0 0 1 5-1l-2.6 2.6 1 1 2.6-2.6a4 4 0 0 1-5.4 5L8 18.6A2 2 0 0 1 5.3 16l7.2-7.1a4 4 0 0 1 2-2.4z"],
	trash: ["M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12"],
};

/** Return the icon `name`, which screen readers skip. */
export function icon(name) {
	const paths = ICONS[name].map((d) => svg("path", { d }));
	return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, paths);
}

/** Return a button with text. `style` are further classes, such as `.primary`. */
export const button = (label, onclick, style = "", attributes = {}) => h(`button.button${style}`, { type: "button", onclick, ...attributes }, label);

/** Return a button that shows an icon; `label` is its name for screen readers and its tooltip. */
export const iconButton = (name, label, onclick, attributes = {}) =>
	h("button.icon-button", { type: "button", title: label, "aria-label": label, onclick, ...attributes }, icon(name));

/** Return an element that scrolls by itself, and can be reached with the keyboard for that. */
export const scrollable = (name, label, ...children) => h(name, { tabindex: "0", role: "region", "aria-label": label }, ...children);

/** Line that says what went wrong, and is not there if nothing did. */
export class Problem {
	element = h("p.failure", { role: "alert", hidden: true });

	show(text = "") {
		this.element.textContent = text;
		this.element.hidden = text === "";
	}
}

/** Let screen readers read `text` when they have finished what they are reading. */
export function announce(text) {
	document.getElementById("announcer").textContent = text;
}

/** Put `text` on the clipboard, also on pages without TLS, where the Clipboard API is missing. */
export async function copyText(text) {
	if (navigator.clipboard) return navigator.clipboard.writeText(text);
	const area = h("textarea.visually-hidden", { "aria-hidden": "true" });
	area.value = text;
	const focused = document.activeElement;
	(document.querySelector("dialog[open]") ?? document.body).append(area);
	area.select();
	document.execCommand("copy");
	area.remove();
	focused?.focus();
}

/** Return a button that copies what `text()` returns, and says so. */
export function copyButton(text, label = "Copy") {
	const copy = iconButton("copy", label, async () => {
		await copyText(text());
		copy.replaceChildren(icon("done"));
		announce("Copied");
		setTimeout(() => copy.replaceChildren(icon("copy")), 1500);
	});
	return copy;
}
