/** The page at `/`, in a real Chromium; skipped where there is none. A screenshot stays in `dist-test/page`. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Hono } from 'hono';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AutoModelForImageTextToText, type CausalLMGenerateOptions, type Streamer } from '../../src/index.ts';
import { createServer, listen } from '../../src/server/index.ts';
import { findChromium } from '../helpers/chromium.ts';
import { goldenModel } from '../helpers/goldens.ts';
import { type Serving, serveDemo } from './serving.ts';

const PICTURES = join(import.meta.dirname, '../../dist-test/page');
const executablePath = findChromium();
const WHY_NOT = executablePath ? '' : ' (skipped: no Chromium on the PATH, nor in SWITCHYARD_TEST_CHROMIUM)';

describe('the page as a file', () => {
  let serving: Serving;
  beforeAll(async () => {
    serving = await serveDemo({ apiKey: 'secret' });
  });
  afterAll(() => serving.stop());

  it('needs no key, and may load nothing but what the server has', async () => {
    const response = await fetch(serving.url);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-security-policy')).toMatch(
      /^default-src 'none'; script-src 'self' 'sha256-[\w+/]{43}='; style-src 'self';/,
    );
    const text = await response.text();
    const linked = [...text.matchAll(/(?:src|href)="(?!#|data:)([^"]+)"/g)].map(
      (match) => match[1] as string,
    );
    expect(linked).toEqual(['page/page.css', 'page/main.js']);
    for (const path of linked) expect((await fetch(`${serving.url}/${path}`)).status).toBe(200);
    expect((await fetch(`${serving.url}/activity`)).status).toBe(401);
    expect((await fetch(`${serving.url}/page/../create-server.ts`)).status).toBe(401);
  });

  it('may be left out', async () => {
    const other = await serveDemo({ page: false });
    expect((await fetch(other.url)).status).toBe(404);
    await other.stop();
  });
});

describe.skipIf(!executablePath)(`the page in Chromium${WHY_NOT}`, () => {
  let serving: Serving;
  let browser: Browser;
  let page: Page;
  /** Bodies of requests for answers. */
  let asked: { experts?: string; messages: { role: string; content: string }[] }[];
  let urls: string[];
  let complaints: string[];
  /** An answer stops after its third token until this resolves. */
  let hold: Promise<void> | undefined;

  beforeAll(async () => {
    serving = await serveDemo();
    const generate = serving.model.generate.bind(serving.model);
    serving.model.generate = (options: CausalLMGenerateOptions) =>
      generate({ ...options, streamer: holding(options.streamer as Streamer) });
    browser = await chromium.launch({ executablePath: executablePath as string, args: ['--no-sandbox'] });
  });
  afterAll(async () => {
    await browser?.close();
    await serving.stop();
  });
  beforeEach(async () => {
    [asked, urls, complaints, hold] = [[], [], [], undefined];
    page = await browser.newPage({ viewport: { width: 1400, height: 800 } });
    page.setDefaultTimeout(0);
    page.on('request', (request) => {
      urls.push(request.url());
      if (request.method() === 'POST') asked.push(request.postDataJSON());
    });
    page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(serving.url);
    await page.locator('#experts option').first().waitFor({ state: 'attached' });
  });
  afterEach(() => page.close());

  function holding(streamer: Streamer): Streamer {
    let count = 0;
    return {
      put: async (ids) => {
        if (++count > 3) await hold;
        await streamer.put(ids);
      },
      end: () => streamer.end(),
    };
  }

  /** Settings under which an answer is short and always the same. */
  async function settle(): Promise<void> {
    await page.getByText('Settings').click();
    await page.getByLabel('Temperature').fill('0');
    await page.getByLabel('Most new tokens').fill('24');
  }

  async function ask(text: string): Promise<void> {
    await page.getByLabel('Your message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
  }

  const answers = () => page.locator('#turns .assistant');
  const ended = (text: string) => expect.poll(() => page.locator('#status').textContent()).toBe(text);

  it('converses, and goes on by other experts in the midst of a conversation', async () => {
    await settle();
    await ask('Tell me a story.');
    await ended('The answer was cut at the limit.');
    const first = await answers().locator('.text').last().textContent();
    expect(first?.length).toBeGreaterThan(10);
    expect(await answers().locator('.note').textContent()).toMatch(
      /^grouped_mm · 24 tokens, [\d.]+ tokens\/s · cut at the limit$/,
    );
    await page.getByRole('combobox', { name: 'Experts' }).selectOption('eager');
    await ask('Go on.');
    await expect.poll(() => answers().count()).toBe(2);
    await ended('The answer was cut at the limit.');
    expect(await answers().locator('.note').last().textContent()).toMatch(/^eager · 24 tokens/);
    expect(asked.map(({ experts }) => experts)).toEqual(['grouped_mm', 'eager']);
    expect(asked[1]?.messages).toEqual([
      { role: 'user', content: 'Tell me a story.' },
      { role: 'assistant', content: first },
      { role: 'user', content: 'Go on.' },
    ]);

    // The routing that came with it.
    await expect.poll(() => page.locator('#busiest tr').count()).toBe(5);
    await expect.poll(() => page.locator('#routing-summary').textContent()).toMatch(/^[1-9]\d* tokens since/);
    await page.getByText('Busiest experts').click();
    expect(await page.locator('#busiest tr').first().textContent()).toMatch(/^0\d+ \(\d+%\).* of 16$/);
    expect(await page.locator('#queue').textContent()).toMatch(/^\d running, 0 waiting$/);

    mkdirSync(PICTURES, { recursive: true });
    await page.screenshot({ path: join(PICTURES, 'light.png') });
    const paper = () => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    const light = await paper();
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await paper()).not.toBe(light);
    await page.screenshot({ path: join(PICTURES, 'dark.png') });

    // What was said is there again after a reload.
    await page.reload();
    await expect.poll(() => answers().count()).toBe(2);
    expect(await answers().locator('.text').first().textContent()).toBe(first);
    expect(complaints).toEqual([]);
    expect(urls.filter((url) => !url.startsWith(serving.url) && !url.startsWith('data:'))).toEqual([]);
  });

  it.each(['Escape', 'the button'])('stops an answer by %s, and keeps what there is', async (by) => {
    let goOn = () => {};
    hold = new Promise((resolve) => {
      goOn = resolve;
    });
    await ask('Tell me a long story.');
    await expect.poll(() => answers().locator('.text').textContent()).not.toBe('');
    if (by === 'Escape') await page.keyboard.press('Escape');
    else await page.getByRole('button', { name: 'Stop' }).click();
    await ended('The answer was stopped.');
    const kept = await answers().locator('.text').textContent();
    expect(kept).not.toBe('');
    goOn();
    expect(await answers().locator('.note').textContent()).toContain('stopped');
    await expect
      .poll(async () => (await fetch(`${serving.url}/metrics`)).text())
      .toContain('switchyard_requests_running 0');
    expect(await answers().locator('.text').textContent()).toBe(kept);
    // The next question is taken.
    hold = undefined;
    await settle();
    await page.getByRole('button', { name: 'Answer again' }).click();
    await ended('The answer was cut at the limit.');
    expect(complaints).toEqual([]);
  });

  it('takes no question before it knows models and conversations, and keeps what was typed', async () => {
    let goOn = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    await page.route('**/v1/models', async (route) => {
      await held;
      await route.continue();
    });
    await page.reload();
    await ask('Too early.');
    await ended('The page is still loading.');
    expect(await answers().count()).toBe(0);
    goOn();
    await ended('');
    await settle();
    await page.getByLabel('Your message', { exact: true }).press('Enter');
    await ended('The answer was cut at the limit.');
    expect(asked.map(({ messages }) => messages.map(({ content }) => content))).toEqual([['Too early.']]);
  });

  it('shows what the server says against a request', async () => {
    await ask('long '.repeat(3000));
    await expect.poll(() => page.locator('#status.failed').textContent()).toMatch(/context/);
    expect(await answers().count()).toBe(0);
  });

  it('names all its controls, for those who do not see them', async () => {
    const nameless = await page.evaluate<string[]>(`
      [...document.querySelectorAll('button, select, textarea, input:not([hidden])')]
        .filter((one) => !one.textContent.trim() || one instanceof HTMLSelectElement)
        .filter((one) => !one.ariaLabel && !one.labels?.length)
        .map(({ id }) => id)`);
    expect(nameless).toEqual([]);
    await page.locator('.skip').focus();
    const stops: string[] = [];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab');
      stops.push(await page.evaluate<string>('document.activeElement.id'));
    }
    expect(stops).toEqual(
      expect.arrayContaining(['model', 'experts', 'show-routing', 'new', 'question', 'send']),
    );
    await page.locator('.skip').focus();
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    expect(['question', 'send']).toContain(await page.evaluate('document.activeElement.id'));
  });

  it('sends pictures to a model that sees', async () => {
    const model = await AutoModelForImageTextToText.fromPretrained(goldenModel('qwen3_vl_moe_e'));
    const seeing = await listen(createServer({ model, name: 'vision' }), { port: 0 });
    await page.goto(seeing.url);
    await page.locator('#experts option').first().waitFor({ state: 'attached' });
    await settle();
    const choosing = page.waitForEvent('filechooser');
    await page.getByRole('button', { name: 'Add pictures' }).click();
    await (await choosing).setFiles(join(goldenModel('qwen3_vl_moe_e'), 'images/shapes.png'));
    await page.getByAltText('Picture 1').waitFor();
    await ask('What is this?');
    await expect
      .poll(() => page.locator('#status').textContent())
      .toMatch(/^The answer (is complete|was cut)/);
    const parts = (asked[0]?.messages[0]?.content ?? []) as unknown as Record<string, unknown>[];
    const [picture, text] = parts;
    expect(text).toEqual({ type: 'text', text: 'What is this?' });
    const { url = '' } = (picture?.image_url ?? {}) as { url?: string };
    expect(url).toMatch(/^data:image\/png;base64,/);
    await expect.poll(() => page.locator('#turns .user img').getAttribute('src')).toBe(url);
    expect(complaints).toEqual([]);
    await page.close();
    await seeing.close();
    await model.dispose();
  });

  it('finds its place where it is mounted, and asks for nothing beside it', async () => {
    const app = new Hono();
    app.mount('/llm', serving.server.app.fetch);
    const listening = await listen({ app, drain: async () => {} }, { port: 0 });
    const missed: string[] = [];
    page.on('response', (response) => {
      if (response.status() >= 400) missed.push(response.url());
    });
    await page.goto(`${listening.url}/llm?a`);
    await page.locator('#experts option').first().waitFor({ state: 'attached' });
    expect([page.url(), missed, complaints]).toEqual([`${listening.url}/llm/?a`, [], []]);
    // It has its style from the beginning, too.
    expect(await page.evaluate('getComputedStyle(document.querySelector(".skip")).position')).toBe(
      'absolute',
    );
    await page.goto('about:blank');
    await listening.close();
  });

  it('asks for the key of a server that wants one', async () => {
    const locked = await serveDemo({ apiKey: 'secret' });
    await page.goto(locked.url);
    await page.getByLabel('API key').fill('wrong');
    await page.keyboard.press('Enter');
    await ended('The API key is wrong');
    await page.getByLabel('API key').fill('secret');
    await page.keyboard.press('Enter');
    await settle();
    await ask('Hello');
    await ended('The answer was cut at the limit.');
    await page.close();
    await locked.stop();
  });
});
