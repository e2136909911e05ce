// openai of npm: at once, as a stream, and an error that it understands.
import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none" });
const ask = {
  model: "mull@0.4",
  messages: [{ role: "user", content: "What is the sum of 3 4 5 6 7?" }],
  temperature: 0,
};
const reply = await client.chat.completions.create(ask);
assert(reply.choices[0].message.content.includes("boxed"));
assert.equal(reply.mull.lambda, 0.4);
let content = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  content += chunk.choices[0]?.delta.content ?? "";
}
assert.equal(content, reply.choices[0].message.content);
await assert.rejects(client.chat.completions.create({ ...ask, model: "other" }), OpenAI.NotFoundError);
