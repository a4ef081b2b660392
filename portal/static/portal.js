// What pages do beyond HTML. Everything works without it.
(() => {
	"use strict";
	const all = (selector, root = document) => root.querySelectorAll(selector);

	// Times: the server writes them relative, or in UTC. Here they follow the clock, and
	// those of more than a day ago are shown in the reader's zone.
	const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
	const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
	const long = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
	const units = [["s", 60], ["min", 60], ["h", 24]];
	function relative(seconds) {
		if (Math.abs(seconds) < 1) return "now";
		let n = Math.abs(seconds);
		for (const [unit, size] of units) {
			if (n < size) return seconds < 0 ? `in ${Math.floor(n)} ${unit}` : `${Math.floor(n)} ${unit} ago`;
			n /= size;
		}
		return "";
	}
	function showTimes(root) {
		const now = Date.now();
		for (const t of all("time[datetime]", root)) {
			const at = new Date(t.dateTime);
			if (isNaN(at)) continue;
			if (!t.dataset.utc) {
				t.dataset.utc = t.title;
				t.title = `${exact.format(at)} · ${t.title}`;
			}
			const text = "exact" in t.dataset ? exact.format(at) : relative((now - at) / 1000) || (Math.abs(now - at) < 180 * 86400e3 ? short : long).format(at);
			if (t.textContent !== text) t.textContent = text;
		}
	}
	setInterval(() => { if (!document.hidden) showTimes(document); }, 10000);

	function toast(text, tone) {
		for (const p of all(".toast p")) if (p.textContent === text) return;
		const box = document.createElement("div");
		box.className = `toast ${tone}`;
		box.setAttribute("role", tone === "bad" ? "alert" : "status");
		const p = document.createElement("p");
		p.textContent = text;
		const close = document.createElement("button");
		close.type = "button";
		close.textContent = "Close";
		close.dataset.close = "";
		box.append(p, close);
		document.getElementById("toasts").append(box);
		fade(box);
	}
	function fade(box) { if (!box.classList.contains("bad")) setTimeout(() => box.remove(), 8000); }

	// Dialogs: a link with data-dialog leads to a page with one form. With scripts that form
	// opens in front of the page on which the link is.
	function openDialog(link, click) {
		const dialog = document.getElementById("dialog");
		const body = dialog.firstElementChild;
		body.replaceChildren();
		htmx.ajax("GET", link.href, { target: body, swap: "innerHTML", event: click }).then(() => {
			if (!body.childElementCount) return;
			dialog.setAttribute("aria-label", link.textContent.trim());
			if (!body.querySelector("h2")) {
				const title = document.createElement("h2");
				title.textContent = link.textContent.trim();
				body.prepend(title);
			}
			dialog.showModal();
			(body.querySelector("[autofocus], input:not([type=hidden]), select, textarea, button") || dialog).focus();
		});
	}

	document.addEventListener("click", (e) => {
		const at = (selector) => e.target.closest(selector);
		const link = at("a[data-dialog]");
		const copy = at("[data-copy]");
		if (link && !e.metaKey && !e.ctrlKey && !e.shiftKey && window.htmx) {
			e.preventDefault();
			openDialog(link, e);
		} else if (copy) {
			navigator.clipboard.writeText(copy.dataset.copy).then(() => {
				const label = copy.textContent;
				copy.textContent = "Copied";
				setTimeout(() => { copy.textContent = label; }, 1500);
			}, () => toast("The browser does not allow copying here. Select the text instead.", "warn"));
		} else if (at("[data-close]")) {
			const dialog = at("dialog");
			const box = at(".toast");
			if (dialog) {
				e.preventDefault();
				dialog.close();
			} else if (box) box.remove();
		} else if (at("[data-print]")) print();
		else if (at("[data-retry]")) location.reload();
		for (const menu of all("details.account[open], details.more[open]")) {
			if (!menu.contains(e.target)) menu.open = false;
		}
	});

	// A form is sent once: its buttons rest until the next page is there.
	document.addEventListener("submit", (e) => {
		if (e.target.method !== "post") return;
		if (e.target.dataset.sent) { e.preventDefault(); return; }
		e.target.dataset.sent = "1";
		e.target.dispatchEvent(new Event("sent", { bubbles: true })); // htmx would hold back a submit that it listens to
		for (const b of all("button[type=submit], button:not([type])", e.target)) b.setAttribute("aria-busy", "true");
	});
	function rest(root) {
		for (const f of all("form[data-sent]", root)) {
			delete f.dataset.sent;
			for (const b of all("[aria-busy]", f)) b.removeAttribute("aria-busy");
		}
	}
	addEventListener("pageshow", () => rest(document));

	// A dangerous act wants the name of what it is about.
	function match(input) {
		const button = input.form && input.form.querySelector("button[type=submit]");
		if (button) button.disabled = input.value !== input.dataset.match;
	}
	document.addEventListener("input", (e) => { if (e.target.dataset.match !== undefined) match(e.target); });
	// A filter that is chosen is applied.
	document.addEventListener("change", (e) => {
		if (e.target.matches("form[data-apply] select, form[data-apply] input[type=date]")) e.target.form.requestSubmit();
	});

	document.addEventListener("keydown", (e) => {
		const typing = e.target.closest("input, textarea, select, [contenteditable]");
		if (e.key === "k" && (e.metaKey || e.ctrlKey) || e.key === "/" && !typing) {
			const search = document.getElementById("search");
			if (search) { e.preventDefault(); search.focus(); search.select(); }
		} else if (e.key === "Escape") {
			for (const menu of all("details.account[open], details.more[open]")) menu.open = false;
		}
	});

	function ready(root) {
		showTimes(root);
		for (const input of all("input[data-match]", root)) match(input);
		for (const box of all(".toast", root)) fade(box);
	}
	ready(document);
	// A page that refreshes itself does not keep its reader's session alive.
	document.addEventListener("htmx:configRequest", (e) => {
		if (!e.detail.triggeringEvent) e.detail.headers["X-Sealmq-Unattended"] = "1";
	});
	document.addEventListener("htmx:load", (e) => ready(e.detail.elt));
	document.addEventListener("htmx:afterRequest", () => rest(document));
	// Refreshes fail one after the other: what they say stands once, and goes with the next that succeeds.
	const away = ["The portal cannot be reached. It is tried again with the next refresh.", "The main server cannot be reached. What you see may be old."];
	document.addEventListener("htmx:sendError", () => toast(away[0], "bad"));
	document.addEventListener("htmx:responseError", (e) => { if (e.detail.xhr.status >= 500) toast(away[1], "bad"); });
	document.addEventListener("htmx:afterOnLoad", (e) => {
		if (e.detail.xhr.status >= 400) return;
		for (const box of all(".toast")) if (away.includes(box.firstElementChild.textContent)) box.remove();
	});
})();
