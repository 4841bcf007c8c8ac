// Loads the model and tokenizer in a folder, generates and decodes, and says in JSON what came of it.
// argv: URL of the library, folder.
const [, , library, folder] = process.argv;
const { AutoModelForCausalLM, AutoTokenizer, SwitchyardError } = await import(library);

async function speak() {
  const tokenizer = await AutoTokenizer.fromPretrained(folder);
  tokenizer.applyChatTemplate([{ role: 'user', content: 'Where?' }], { tokenize: false });
  const inputIds = [tokenizer.encode('In the beginning')];
  const model = await AutoModelForCausalLM.fromPretrained(folder, { threads: 1 });
  try {
    const { sequences } = await model.generate({ inputIds, maxNewTokens: 8, doSample: false });
    return { ids: sequences[0], text: tokenizer.decode(sequences[0]) };
  } finally {
    await model.dispose();
  }
}

const result = await speak().catch((error) => ({
  error: {
    name: String(error?.name),
    message: String(error?.message ?? error),
    own: error instanceof SwitchyardError,
  },
}));
console.log(JSON.stringify({ ...result, megabytes: process.resourceUsage().maxRSS / 1024 }));
