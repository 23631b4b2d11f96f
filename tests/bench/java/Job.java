import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/** What a contender is asked to do; tests/bench/contenders/contender.py writes it as JSON, on one line of stdin. */
record Job(
        String bootstrap,
        String name,
        Source drain,
        Source warmUp,
        int transaction,
        int destinationPartitions,
        int logPartitions,
        int threads,
        String reason,
        String nodeId) {

    /** One xfer topic and where it goes; ranges are first offsets (included) and last ones (excluded). */
    record Source(String topic, String queue, String logTopic, String copyTopic, Map<Integer, long[]> ranges) {}

    /** A count of what was done. */
    record Done(long messages, long transactions) {}

    /** One way to drain a topic. */
    interface Loop {
        /** Drains it; `tag` tells the warm-up's ids from the others. `start` is called when all is ready. */
        Done drain(Job job, Source source, String tag, Start start) throws Exception;
    }

    /** Holds a loop until the clock runs. */
    interface Start {
        void await() throws IOException;
    }

    private static final JsonMapper JSON = new JsonMapper();

    /** Warms up on the other topic, says READY, waits for GO, drains, and prints what it did. */
    static void run(Loop loop) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Job job = read(in.readLine());
        loop.drain(job, job.warmUp, "warm-up", () -> {});
        Done done = loop.drain(job, job.drain, "drain", () -> {
            System.out.println("READY");
            if (!"GO".equals(in.readLine())) {
                throw new IOException("no GO");
            }
        });
        System.out.println("DONE {\"messages\":" + done.messages + ",\"transactions\":" + done.transactions + "}");
        System.out.flush();
        // What the clients still have to close is not of interest.
        Runtime.getRuntime().halt(0);
    }

    private static Job read(String line) throws IOException {
        JsonNode job = JSON.readTree(line);
        return new Job(
                job.get("bootstrap").asText(),
                job.get("name").asText(),
                source(job.get("drain")),
                source(job.get("warm_up")),
                job.get("transaction").asInt(),
                job.get("destination_partitions").asInt(),
                job.get("log_partitions").asInt(),
                job.get("threads").asInt(),
                job.get("reason").asText(),
                job.get("node_id").asText());
    }

    private static Source source(JsonNode node) {
        Map<Integer, long[]> ranges = new TreeMap<>();
        node.get("ranges").properties().forEach(range -> ranges.put(
                Integer.valueOf(range.getKey()),
                new long[] {range.getValue().get(0).asLong(), range.getValue().get(1).asLong()}));
        return new Source(
                node.get("topic").asText(),
                node.get("queue").asText(),
                node.get("log_topic").asText(),
                node.get("copy_topic").asText(),
                ranges);
    }
}
