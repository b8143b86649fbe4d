// What a piece of work took, for the sides that run in Node; stopwatch.py and driver.py have the same.

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

// Milliseconds for which a piece of work is repeated: what Node tells of the processor is as coarse as the kernel's tick.
const AT_LEAST = 100;

// In seconds: on the wall, of the thread that runs JavaScript, and of the whole process.
export const timed = async (work, times = 1) => {
  const took = [];
  for (let n = 0; n < times; n += 1) {
    const [begun, thread, cpu] = [performance.now(), process.threadCpuUsage(), process.cpuUsage()];
    let done = 0;
    do {
      await work();
      done += 1;
    } while (performance.now() - begun < AT_LEAST);
    const wall = (performance.now() - begun) / 1e3;
    const [inThread, inAll] = [process.threadCpuUsage(thread), process.cpuUsage(cpu)];
    took.push({
      wall: wall / done,
      thread: (inThread.user + inThread.system) / 1e6 / done,
      cpu: (inAll.user + inAll.system) / 1e6 / done,
    });
  }
  return Object.fromEntries(["wall", "thread", "cpu"].map((name) => [name, median(took.map((each) => each[name]))]));
};

export const tell = (about, found) => {
  process.stdout.write(`${JSON.stringify({ about, found })}\n`, () => process.exit(0));
};
