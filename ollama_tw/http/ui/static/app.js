// Start of the page: its views, the colours, the key and the state of the connection.

import { key, onKeyNeeded, setKey } from "./api.js";
import { Chat } from "./chat.js";
import { prompt } from "./dialogs.js";
import { icon } from "./dom.js";
import { Live } from "./live.js";
import { Models } from "./models.js";

const main = document.getElementById("main");
const state = document.getElementById("state");

/** Show whether the page is connected; `error` is the reason why it could not connect. */
function showConnection(open, error = null) {
	const refused = [401, 403].includes(error?.status);
	const words = open ? "Connected" : refused ? "Key needed" : "Not connected";
	state.classList.toggle("open", open);
	state.classList.toggle("lost", !open);
	state.title = error?.message ?? words;
	state.querySelector(".words").textContent = words;
	keyButton.hidden = key() === null && !refused;
}

const keyButton = document.getElementById("key");
keyButton.append(icon("key"));

const askForKey = (note) => prompt("This server needs a key", "Key", "Use the key", { type: "password", placeholder: "otw-…" }, note);

onKeyNeeded((refused) =>
	askForKey(
		refused
			? "The server does not accept the key of this tab. It may have expired or been removed."
			: "A key is shown once, when it is made with: ollama keys add NAME. This tab keeps it until it is closed.",
	),
);

keyButton.addEventListener("click", async () => {
	const given = await askForKey("The new key takes the place of the one that this tab has.");
	if (given === null) return;
	setKey(given);
	location.reload();
});

const themeButton = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function showTheme() {
	const label = isDark() ? "Light colours" : "Dark colours";
	themeButton.replaceChildren(icon(isDark() ? "sun" : "moon"));
	themeButton.title = label;
	themeButton.setAttribute("aria-label", label);
}

themeButton.addEventListener("click", () => {
	const dark = !isDark();
	// Where the choice is the system's, the page follows the system again.
	if (dark === system.matches) {
		delete document.documentElement.dataset.theme;
		localStorage.removeItem("ollama-theme");
	} else {
		document.documentElement.dataset.theme = dark ? "dark" : "light";
		localStorage.setItem("ollama-theme", dark ? "dark" : "light");
	}
	showTheme();
});
system.addEventListener("change", showTheme);
showTheme();

const chat = new Chat(document.getElementById("view-chat"), showConnection);
const views = {
	chat,
	models: new Models(document.getElementById("view-models"), () => chat.refresh().catch(() => {})),
	live: new Live(document.getElementById("view-live")),
};
let current = null;

function route() {
	const wanted = location.hash.slice(1);
	const name = wanted in views ? wanted : "chat";
	if (name === current) return;
	views[current]?.hide?.();
	current = name;
	for (const one of Object.keys(views)) document.getElementById(`view-${one}`).hidden = one !== name;
	for (const link of document.querySelectorAll(".tabs a")) {
		const shown = link.hash === `#${name}`;
		link.ariaCurrent = shown ? "page" : null;
		if (shown) document.title = `${link.textContent} – ollama_tw`;
	}
	views[name].show();
}

addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", (event) => {
	event.preventDefault();
	main.focus();
});
route();
