// What is shown of numbers, times and strangers' texts.

// Characters that steer the direction of text, or none that can be seen: shown by their number, so that they turn
// nothing round and hide nothing.
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function plain(text) {
  return String(text ?? "").replace(STEERING, (c) => `\u2039${c.codePointAt(0).toString(16).padStart(4, "0")}\u203a`);
}

export function time(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function when(at) {
  const date = new Date(at * 1000), today = new Date();
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === today.toDateString()) return clock;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock}`;
}

export const nameOf = (path) => String(path ?? "").split(/[\\/]/).filter(Boolean).pop() ?? "";

export function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = plain(text);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
