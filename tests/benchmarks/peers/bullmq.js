// BullMQ at its defaults: a lock of 30 s that is renewed, stalled jobs looked for every
// 30 s. What is made short are these two (lockDuration, stalledInterval), and
// maxStalledCount stays 1. The producer is set as "Going to production" in its guide
// has it: maxRetriesPerRequest null for workers, and not set for queues.
//
// node bullmq.js VERB NAME ... does what python -m peers does for the others.

const crypto = require("node:crypto");
const fs = require("node:fs");
const { Queue, Worker, Job } = require("bullmq");

const EXTRA = 100000;
const PATIENCE = 30000; // ms for one call of enqueue
const short = Number(process.env.FAULTS_SHORT || 0) * 1000;
const url = new URL(process.env.FAULTS_URL || "redis://127.0.0.1:6379");
const connection = { host: url.hostname, port: Number(url.port) };
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

function write(word, number, run) {
  // The clock of time.monotonic().
  const at = (Number(process.hrtime.bigint()) / 1e9).toFixed(3);
  const line = `${word} ${number} ${run} ${process.pid} ${at}\n`;
  fs.appendFileSync(process.env.FAULTS_LOG, line);
}

async function nap(job) {
  const number = job.data.number;
  const run = crypto.randomBytes(6).toString("hex");
  write("start", number, run);
  await sleep(number >= EXTRA ? 0 : Number(process.env.FAULTS_SECONDS));
  write("end", number, run);
  return run;
}

function work(slots) {
  const times = short ? { lockDuration: short, stalledInterval: short } : {};
  const worker = new Worker("faults", nap, {
    connection: { ...connection, maxRetriesPerRequest: null },
    concurrency: Number(slots),
    ...times,
  });
  worker.on("error", (error) => console.error(String(error)));
}

async function produce(first, count, pace) {
  const queue = new Queue("faults", { connection });
  queue.on("error", () => {});
  for (let number = Number(first); number < Number(first) + Number(count); number++) {
    let line;
    try {
      const late = sleep(PATIENCE / 1000).then(() => {
        throw new Error("late");
      });
      const job = await Promise.race([queue.add("nap", { number }), late]);
      line = `sent ${number} ${job.id}\n`;
    } catch (error) {
      line = `failed ${number} ${error.name}\n`;
    }
    fs.appendFileSync(process.env.FAULTS_SENT, line);
    await sleep(Number(pace));
  }
  process.exit(0);
}

async function results() {
  const queue = new Queue("faults", { connection });
  const found = {};
  for (const line of fs.readFileSync(process.env.FAULTS_SENT, "utf-8").split("\n")) {
    const [word, number, id] = line.split(" ");
    if (word === "sent") {
      const job = await Job.fromId(queue, id);
      found[number] = job?.returnvalue ?? null;
    }
  }
  console.log(JSON.stringify(found));
  process.exit(0);
}

function versions() {
  const bullmq = require("bullmq/package.json").version;
  const ioredis = require("ioredis/package.json").version;
  console.log(JSON.stringify({ bullmq, ioredis, node: process.versions.node }));
}

const [verb, , ...rest] = process.argv.slice(2);
({ work: () => work(...rest), produce: () => produce(...rest), results, versions })[
  verb
]();
