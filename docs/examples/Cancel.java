import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Cancels a transfer by a command on Kafka, and follows the delivery log: `java -cp 'libs/*' Cancel.java QUEUE REASON`,
 * with kafka-clients and what it needs in libs. QUEUE is an xfer queue's name. Goes on until it is ended.
 */
final class Cancel {
    private static final String SERVERS = variable("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092");
    private static final String COMMANDS = variable("XFERQ_COMMANDS_TOPIC", "xferq.commands");
    private static final String LOG = variable("XFERQ_LOG_TOPIC", "delivery-log");

    public static void main(String[] args) throws Exception {
        publish(args[0], args[1]);
        follow(args[0]);
    }

    /** The command is durable when this returns. */
    private static void publish(String queue, String reason) throws Exception {
        // With an id of its own a command may be sent again after a failure: twice with the same id is one cancel.
        String command = "{\"type\": \"xfer.cancel\", \"queue_name\": %s, \"reason\": %s, \"id\": \"cancel-%s\"}"
                .formatted(json(queue), json(reason), UUID.randomUUID());
        Map<String, Object> settings = Map.of("bootstrap.servers", SERVERS); // which means acks=all, idempotent
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            // By the key: all commands of a queue come to one partition, in their order.
            producer.send(new ProducerRecord<>(COMMANDS, queue, command)).get();
        }
    }

    /** Prints the id of each message that comes out of the queue, and its record. */
    private static void follow(String queue) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", SERVERS,
                "group.id", "example-cancel",
                // The log is written in the transactions that move the messages. One that was aborted leaves records
                // of moves that never were; only a reader of what is committed does not see them.
                "isolation.level", "read_committed",
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false);
        String ours = "\"content\":" + json("Rebound from " + queue + " to ").replaceFirst("\"$", "");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(LOG));
            while (true) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.value().contains(ours)) {
                        System.out.println(record.key() + " " + record.value());
                    }
                }
                // Only now, when they were dealt with: after a crash they come again.
                consumer.commitSync();
            }
        }
    }

    private static String json(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    private static String variable(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
