// Looks at the status page in chromium: node statuspage.mjs URL PASSWORD SCREENSHOTS STATE WANTED
// It needs playwright-core beside it; `make browser` sees to that.
import { chromium } from "playwright-core";
import assert from "node:assert/strict";

const [url, password, folder, state, wanted] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  for (const [name, width, height] of [["desktop", 1120, 900], ["phone", 390, 844]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({
        viewport: { width, height }, colorScheme, httpCredentials: { username: "admin", password },
      });
      const page = await context.newPage();
      const complaints = [];
      page.on("console", (message) => complaints.push(message.text()));
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("request", (request) => { if (!request.url().startsWith(url)) complaints.push("asked for " + request.url()); });
      await page.goto(url);
      await page.screenshot({ path: `${folder}/status-${state}-${name}-${colorScheme}.png`, fullPage: true });

      assert.match(await page.locator("#verdict").innerText(), new RegExp(wanted), "verdict");
      assert.equal(await page.locator(".tables tbody tr").count(), 6, "tables");
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(overflow <= 0, `${name}: the page is ${overflow} px wider than the screen`);
      const faint = await page.evaluate(() => {
        const channels = (color) => color.match(/[\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
          .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
          .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (element) => {
          for (let e = element; e; e = e.parentElement) {
            const color = channels(getComputedStyle(e).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
          }
          return [255, 255, 255];
        };
        return [...document.querySelectorAll("main *")]
          .filter((e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim()))
          .map((e) => {
            const [a, b] = [luminance(channels(getComputedStyle(e).color)), luminance(behind(e))];
            return { text: e.textContent.trim().slice(0, 40), ratio: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
          })
          .filter(({ ratio }) => ratio < 4.5);
      });
      assert.deepEqual(faint, [], `${name}, ${colorScheme}: text with too little contrast`);
      assert.deepEqual(complaints, [], "the browser complains");

      await page.getByRole("link", { name: "Jobs" }).click();
      await page.waitForURL("**/river/**");
      assert.match(await page.title(), /River/, "River UI");
      await context.close();
    }
  }
} finally {
  await browser.close();
}
