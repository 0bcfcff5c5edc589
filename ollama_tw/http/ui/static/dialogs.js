// Dialogs: modal, closed with Escape or a click beside them, and with the focus put back where it was.

import { button, h, iconButton } from "./dom.js";

/** Show a dialog with `title` and return it. `build(close)` returns its content; `onclose(value)` gets what it was closed with. */
export function openDialog(title, build, { className = "", onclose = () => {} } = {}) {
	const dialog = h("dialog", { class: className, "aria-label": title });
	let value = null;
	const close = (given = null) => {
		value = given;
		dialog.close();
	};
	const closeButton = iconButton("close", "Close", () => close());
	dialog.append(h("div.dialog-head", h("h2", title), closeButton), ...[build(close)].flat());
	dialog.addEventListener("click", (event) => event.target === dialog && close());
	dialog.addEventListener("close", () => {
		dialog.remove();
		onclose(value);
	});
	document.body.append(dialog);
	dialog.showModal();
	dialog.querySelector("[autofocus]")?.focus();
	return dialog;
}

/** Ask a question with the answers `action` and Cancel; resolves to true or false. */
export function confirm(title, text, action) {
	return new Promise((resolve) => {
		const build = (close) => [
			h("p", text),
			h("div.dialog-actions",
				button("Cancel", () => close(false), "", { autofocus: true }),
				button(action, () => close(true), ".danger"),
			),
		];
		openDialog(title, build, { className: "small", onclose: (value) => resolve(value === true) });
	});
}

/** Ask for one line of text; resolves to it, or to null. `attributes` are those of the field. */
export function prompt(title, label, action, attributes = {}, note = null) {
	return new Promise((resolve) => {
		const field = h("input.field", { autofocus: true, required: true, autocomplete: "off", spellcheck: "false", ...attributes });
		const build = (close) => {
			const submit = (event) => {
				event.preventDefault();
				if (field.value.trim() !== "") close(field.value.trim());
			};
			const buttons = [
				button("Cancel", () => close()),
				button(action, null, ".primary", { type: "submit" }),
			];
			return h("form", { onsubmit: submit }, note && h("p", note), h("label", h("span", label), field), h("div.dialog-actions", buttons));
		};
		openDialog(title, build, { className: "small", onclose: resolve });
	});
}
