import { expect, it } from 'vitest';
import { listen } from '../../src/server/index.ts';

it('what listens answers, and leaves its process the Request and Response that it had', async () => {
  const { Request, Response } = globalThis;
  const app = { fetch: () => new Response('here') };
  const listening = await listen({ app, drain: async () => {} } as never, { port: 0 });
  expect(globalThis.Request).toBe(Request);
  expect(globalThis.Response).toBe(Response);
  expect(await (await fetch(listening.url)).text()).toBe('here');
  await listening.close();
});
