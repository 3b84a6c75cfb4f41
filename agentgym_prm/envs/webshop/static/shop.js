"use strict";
// Every button, link and option of a page stands for a command of the agents' language, and is sent as one.
const { mode, chosen, next, before, after } = document.body.dataset;

async function send(command) {
  const body = new URLSearchParams({ command });
  const answer = await fetch(location.pathname, { method: "POST", body });
  if (answer.ok) location.replace(location.pathname);
  else alert(await answer.text());
}

function commandOf(element) {
  if (element.matches("form")) {
    const field = element.querySelector("#search_input");
    return field ? `search[${field.value}]` : `click[${element.querySelector("button").textContent}]`;
  }
  return `click[${element.value ?? element.textContent}]`;
}

function act(event, element) {
  event.preventDefault();
  if (mode === "play") send(commandOf(element));
}

document.addEventListener("submit", (event) => {
  if (!event.target.closest(".bar")) act(event, event.target);
});
document.addEventListener("click", (event) => {
  const element = event.target.closest(".product-link, input[type=radio]");
  if (element) act(event, element);
});
document.addEventListener("keydown", (event) => {
  const place = { ArrowLeft: before, ArrowRight: after }[event.key];
  if (mode === "watch" && place) location.assign(place);
});

for (const [name, value] of JSON.parse(chosen)) {
  for (const radio of document.querySelectorAll("input[type=radio]")) {
    if (radio.name.toLowerCase() === name && radio.value === value) radio.checked = true;
  }
}

// What a recorded agent does next: its search stands in the field, its click is framed.
if (next) {
  const field = document.querySelector("#search_input");
  const search = /^search\[(.*)\]$/is.exec(next);
  if (search && field) field.value = search[1];
  const wanted = next.trim().toLowerCase();
  for (const element of document.querySelectorAll("body > .container form, .product-link, input[type=radio]")) {
    if (commandOf(element).toLowerCase() !== wanted) continue;
    const shown = element.labels?.[0] ?? element.querySelector("button") ?? element;
    shown.classList.add("next");
    shown.scrollIntoView({ block: "center" });
    break;
  }
}
