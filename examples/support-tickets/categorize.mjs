// Says of a ticket what it is about and how urgent it is, by the words in it (rules.json).
//
// The same as categorize.py, to the letter; the tests compare the two.

import { readFileSync } from "node:fs";

const RULES = JSON.parse(readFileSync(new URL("rules.json", import.meta.url), "utf8"));

// What counts as a space differs between languages, so it is spelt out.
const SPACES = /[\s\x00-\x1f\x85\ufeff]+/gu;
const WORD = /[\p{L}\p{N}]+/gu;
const SENTENCE = /^.*?(?:[.!?](?= |$)|[。！？])/u;

/** " the words of a text ", in lower case and without accents. */
function words(text) {
  const plain = text.toLowerCase().normalize("NFKD").replace(/\p{Mn}/gu, "");
  return ` ${(plain.match(WORD) ?? []).join(" ")} `;
}

/** What to look for in the words: a whole phrase, a beginning (x*), or a piece (*x*). */
function pattern(entry) {
  if (entry.startsWith("*")) return words(entry).trim();
  if (entry.endsWith("*")) return words(entry).trimEnd();
  return words(entry);
}

/** [[entry, points]] of all that occur; what stands in the subject counts twice. */
function matches(entries, subject, message) {
  const found = [];
  for (const [entry, weight] of Object.entries(entries)) {
    const wanted = pattern(entry);
    if (subject.includes(wanted)) found.push([entry, weight * 2]);
    else if (message.includes(wanted)) found.push([entry, weight]);
  }
  return found;
}

const sum = (found) => found.reduce((total, [, points]) => total + points, 0);

/** Three exclamation marks in a row, or mostly capitals. */
function isShouting(text) {
  const letters = text.match(/[a-zA-Z]/g)?.length ?? 0;
  const capitals = text.match(/[A-Z]/g)?.length ?? 0;
  return text.includes("!!!") || (letters >= 20 && capitals * 10 >= letters * 7);
}

function shorten(text, length) {
  const characters = Array.from(text);
  if (characters.length <= length) return text;
  return `${characters.slice(0, length - 1).join("").replace(/ +$/, "")}…`;
}

/** The subject and the first sentence. */
function summarize(subject, message) {
  [subject, message] = [subject, message].map((text) => text.replace(SPACES, " ").replace(/^ | $/g, ""));
  const first = message.match(SENTENCE)?.[0] ?? message;
  return shorten([subject, first].filter(Boolean).join(" – "), RULES.summary_length);
}

const textOf = (value) => (typeof value === "string" ? value : "");
const signed = (points) => (points < 0 ? `${points}` : `+${points}`);

/** { category, priority, summary, reasons } of a row of support_tickets. */
export function categorize(ticket) {
  const subject = textOf(ticket.subject);
  const message = textOf(ticket.message);
  const [inSubject, inMessage] = [words(subject), words(message)];

  let [category, best, reasons] = ["general", RULES.threshold - 1, []];
  for (const [name, entries] of Object.entries(RULES.categories)) {
    const found = matches(entries, inSubject, inMessage);
    if (sum(found) > best) {
      [category, best] = [name, sum(found)];
      reasons = found.map(([entry, points]) => `${name}: ${entry} +${points}`);
    }
  }

  const found = matches(RULES.priority.words, inSubject, inMessage);
  if (isShouting(`${subject}\n${message}`)) found.push(["shouting", RULES.priority.shouting]);
  const points = sum(found);
  reasons.push(...found.map(([entry, points]) => `priority: ${entry} ${signed(points)}`));
  let priority = "medium";
  if (points >= RULES.priority.high_from) priority = "high";
  else if (points <= RULES.priority.low_to) priority = "low";

  return { category, priority, summary: summarize(subject, message), reasons };
}
