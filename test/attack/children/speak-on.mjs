// Generates with the model in a folder again and again for a second, then says in JSON what came of it: the last result or the
// first error.
// argv: URL of the library, folder.
const [, , library, folder] = process.argv;
const { AutoModelForCausalLM, SwitchyardError } = await import(library);

async function speakOn() {
  const end = Date.now() + 1000;
  let ids;
  while (Date.now() < end) {
    const model = await AutoModelForCausalLM.fromPretrained(folder, { threads: 1 });
    try {
      for (let n = 0; n < 5; n++)
        ids = (await model.generate({ inputIds: [[1, 2, 3]], maxNewTokens: 4, doSample: false }))
          .sequences[0];
    } finally {
      await model.dispose();
    }
  }
  return { ids };
}

const result = await speakOn().catch((error) => ({
  error: {
    name: String(error?.name),
    message: String(error?.message ?? error),
    own: error instanceof SwitchyardError,
  },
}));
console.log(JSON.stringify({ ...result, megabytes: process.resourceUsage().maxRSS / 1024 }));
