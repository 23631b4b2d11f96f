import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Cancels a transfer by a command on Kafka, and follows it to its end: `java -cp 'libs/*' Cancel.java QUEUE REASON [ID]`,
 * with kafka-clients and what it needs in libs. QUEUE is an xfer queue's name. With the ID of an earlier try, the same
 * command is sent again.
 */
final class Cancel {
    private static final String SERVERS = variable("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092");
    private static final String COMMANDS = variable("XFERQ_COMMANDS_TOPIC", "xferq.commands");
    private static final String LOG = variable("XFERQ_LOG_TOPIC", "delivery-log");
    private static final String RESULTS = variable("XFERQ_RESULTS_TOPIC", "xferq.results");
    private static final Pattern ENDED = Pattern.compile("\"state\":\"(?:done|refused)\".*?\"restored\":(\\d+)");

    public static void main(String[] args) throws Exception {
        String id = args.length > 2 ? args[2] : "cancel-" + UUID.randomUUID();
        try (var consumer = reader()) { // before the command is sent, or it would miss the first records
            publish(args[0], args[1], id);
            follow(consumer, id);
        }
    }

    /** The command is durable when this returns. */
    private static void publish(String queue, String reason, String id) throws Exception {
        // With an id of its own a command may be sent again after a failure: twice with the same id is one cancel.
        String command = "{\"type\": \"xfer.cancel\", \"queue_name\": %s, \"reason\": %s, \"id\": %s}"
                .formatted(json(queue), json(reason), json(id));
        Map<String, Object> settings = Map.of("bootstrap.servers", SERVERS); // which means acks=all, idempotent
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            // By the key: all commands of a queue come to one partition, in their order.
            producer.send(new ProducerRecord<>(COMMANDS, queue, command)).get();
        }
    }

    /** A consumer of all that is written to log and results from now on; it needs no group, as it commits nothing. */
    private static KafkaConsumer<String, String> reader() {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", SERVERS,
                // Both are written in the transactions that make them true. One that was aborted leaves records of what
                // never was; only a reader of what is committed does not see them.
                "isolation.level", "read_committed",
                "enable.auto.commit", false);
        var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        List<TopicPartition> places = Stream.of(LOG, RESULTS)
                .flatMap(topic -> consumer.partitionsFor(topic).stream())
                .map(found -> new TopicPartition(found.topic(), found.partition()))
                .toList();
        consumer.assign(places);
        consumer.endOffsets(places).forEach(consumer::seek);
        return consumer;
    }

    /** Prints the id of each message that the command moves, and its record, until all of them are told. */
    private static void follow(KafkaConsumer<String, String> consumer, String id) {
        // Results and log come from different partitions: the end may be seen before the last moves.
        long moved = 0;
        long restored = Long.MAX_VALUE;
        while (moved < restored) {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                if (record.topic().equals(RESULTS)) {
                    Matcher end = ENDED.matcher(record.value() == null ? "" : record.value());
                    restored = id.equals(record.key()) && end.find() ? Long.parseLong(end.group(1)) : restored;
                } else if (isOf(record, id)) {
                    moved++;
                    System.out.println(record.key() + " " + record.value());
                }
            }
        }
    }

    private static boolean isOf(ConsumerRecord<String, String> record, String id) {
        Header command = record.headers().lastHeader("command_id");
        return command != null && id.equals(new String(command.value(), StandardCharsets.UTF_8));
    }

    private static String json(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private static String variable(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
