// Opens pages of `vopr --timeline` in headless Chromium and looks at them as a person would: no
// error, lanes and marks are drawn, filters filter, a failure is in view. No package is needed: the
// browser is spoken to over a pipe (--remote-debugging-pipe).
//
// usage: node check.mjs CHROMIUM PAGE [--failed] [--picture FILE] [--at-least MARKS]
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import assert from "node:assert/strict";

const [browser, page, ...options] = process.argv.slice(2);
const option = name => options[options.indexOf(name) + 1 || options.length];
const failed = options.includes("--failed");

const chromium = spawn(browser, ["--headless", "--no-sandbox", "--disable-gpu",
  "--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=1500,900", "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const giveUp = setTimeout(() => fail(new Error("the browser does not answer")), 180_000);

let next = 1, text = "";
const waiting = new Map(), heard = [];
chromium.stdio[4].setEncoding("utf8");
chromium.stdio[4].on("data", piece => {
  const messages = (text + piece).split("\0");
  text = messages.pop();
  for (const message of messages.map(m => JSON.parse(m))) {
    if (!message.id) { heard.push(message); continue; }
    const [good, bad] = waiting.get(message.id);
    message.error ? bad(new Error(JSON.stringify(message.error))) : good(message.result);
  }
});
let session;
function send(method, params = {}) {
  const id = next++;
  chromium.stdio[3].write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
  return new Promise((good, bad) => waiting.set(id, [good, bad]));
}
function fail(error) {
  chromium.kill();
  console.error(`${page}: ${error.stack}`);
  process.exit(1);
}
/// What an expression of the page is, once what was asked for is drawn.
async function value(expression) {
  const drawn = "new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))";
  const code = `(async () => { await ${drawn}; return (${expression}); })()`;
  const { result, exceptionDetails } = await send("Runtime.evaluate",
    { expression: code, awaitPromise: true, returnByValue: true });
  assert(!exceptionDetails, JSON.stringify(exceptionDetails));
  return result.value;
}
async function click(selector) {
  await value(`document.querySelector(${JSON.stringify(selector)}).click()`);
}
async function search(words) {
  await value(`(box => { box.value = ${JSON.stringify(words)};
    box.dispatchEvent(new Event("input")); })(document.getElementById("text"))`);
}
async function mouse(type, x, y, more = {}) {
  await send("Input.dispatchMouseEvent", { type, x, y, ...more });
}
/// Pixels of the canvas that have a colour.
const painted = `(() => { const all = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0;
  for (let i = 0; i < all.length; i += 4) n += all[i + 3] > 0
    && Math.max(all[i], all[i + 1], all[i + 2]) - Math.min(all[i], all[i + 1], all[i + 2]) > 60;
  return n; })()`;

async function look() {
  const { targetInfos } = await send("Target.getTargets");
  const targetId = targetInfos.find(t => t.type === "page").targetId;
  ({ sessionId: session } = await send("Target.attachToTarget", { targetId, flatten: true }));
  await send("Runtime.enable");
  await send("Page.enable");
  await send("Log.enable");
  await send("Network.enable");
  await send("Page.navigate", { url: `file://${resolve(page)}` });
  while (!heard.some(m => m.method === "Page.loadEventFired"))
    await new Promise(f => setTimeout(f, 20));
  if (options.includes("--picture")) {
    await value("0");
    const { data } = await send("Page.captureScreenshot", { format: "png" });
    writeFileSync(option("--picture"), Buffer.from(data, "base64"));
  }
  if (failed) await failure();
  else assert.equal(await value("document.getElementById('failure').hidden"), true);
  await click("#all");
  const count = await value("count");
  assert(count >= Number(option("--at-least") ?? 100), `${count} marks`);
  assert.equal(await value("drawn"), count, "the whole run shows all marks");
  const lanes = await value("data.lanes");
  for (const lane of ["controller 0", "API server", "router 0", "router 1", "clients"])
    assert(lanes.includes(lane), `${lane} in ${lanes}`);
  const all = await value(painted);
  assert(all > 1000, `${all} pixels have a colour`);
  await filters(count, all);
  await moves();
  const began = Date.now();
  await value("draw()");
  assert(Date.now() - began < 2000, "drawing takes less than 2 s");
}

async function failure() {
  const shown = await value("document.getElementById('failure').textContent");
  assert.match(shown, /reproduce: cargo run .* --seed \d+/);
  const inView = await value("failing.filter(i => get(i, FROM) >= view.from && "
    + "get(i, FROM) + get(i, LEN) <= view.to).length");
  assert(inView >= 1, "the failing mark is in view");
  const span = await value("(view.to - view.from) / end");
  assert(span < 0.9, `the view is at the failure, not the whole run: ${span}`);
}

async function filters(count, all) {
  const lane = '#lanes input[data-name="API server"]';
  await click(lane);
  const without = await value("drawn");
  assert(without < count, "a lane can be left out");
  assert(await value(painted) < all, "and is not painted");
  await click(lane);
  await click('#kinds input[data-name="change of an object"]');
  const changes = "data.kinds.findIndex(k => k[0] === 'change of an object')";
  const tally = await value(
    `Array.from({ length: count }, (_, i) => get(i, KIND)).filter(k => k === ${changes}).length`);
  assert.equal(await value("drawn"), count - tally, "a kind can be left out");
  await click('#kinds input[data-name="change of an object"]');
  await search("router 1");
  const found = await value("drawn");
  assert(found > 0 && found < count, `a text is found: ${found}`);
  await search("no mark has this text");
  assert.equal(await value("drawn"), 0);
  await search("");
  assert.equal(await value("drawn"), count);
}

async function moves() {
  const box = await value("(b => ({ x: b.x, y: b.y }))(canvas.getBoundingClientRect())");
  const before = await value("view");
  await mouse("mouseWheel", box.x + 700, box.y + 60, { deltaX: 0, deltaY: -400 });
  const near = await value("view");
  assert(near.to - near.from < (before.to - before.from) / 2, "the wheel zooms");
  await mouse("mousePressed", box.x + 700, box.y + 60, { button: "left", clickCount: 1 });
  await mouse("mouseMoved", box.x + 600, box.y + 60, { button: "left", buttons: 1 });
  await mouse("mouseReleased", box.x + 600, box.y + 60, { button: "left", clickCount: 1 });
  const later = await value("view");
  assert(later.from > near.from, "dragging pans");
  assert(Math.abs((later.to - later.from) - (near.to - near.from)) < 1, "and does not zoom");
  await click("#all");
  // Over some mark of the API server.
  const at = await value("(i => ({ x: x(get(i, FROM)) + 1, "
    + "y: tops[get(i, LANE)] + rowOf[i] * ROW + 3 }))(byLane[data.lanes.indexOf('API server')][0])");
  await mouse("mouseMoved", box.x + at.x, box.y + at.y);
  const tip = await value("[document.getElementById('tip').style.display, "
    + "document.getElementById('tip').textContent]");
  assert.equal(tip[0], "block", "hovering tells more");
  assert.match(tip[1], /API server/);
}

try {
  await look();
  const errors = heard.filter(m => m.method === "Runtime.exceptionThrown"
    || m.method === "Log.entryAdded" && m.params.entry.level === "error");
  assert.deepEqual(errors, [], "the page made errors");
  const asked = heard.filter(m => m.method === "Network.requestWillBeSent");
  assert(asked.every(m => m.params.request.url.startsWith("file:")), "nothing from outside");
  console.log(`${page}: ${await value("count")} marks, fine`);
} catch (error) { fail(error); }
clearTimeout(giveUp);
chromium.kill();
