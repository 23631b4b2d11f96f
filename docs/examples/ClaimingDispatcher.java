import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A dispatcher that claims what it sends: `java -cp 'libs/*' ClaimingDispatcher.java QUEUE-TOPIC NAME`, with
 * kafka-clients and what it needs in libs.
 *
 * No cancel takes what it has claimed, and it never sends what a cancel has taken. It claims a few messages by moving
 * them into a topic of its own, in one transaction, and sends them from there, each at most once. NAME is its own and
 * stays the same from start to start. After an error it ends: have it started again.
 */
final class ClaimingDispatcher {
    private static final String SERVERS = variable("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092");
    private static final String GROUP = variable("XFERQ_GROUP_TEMPLATE", "xferq.dispatch.{topic}");
    /** xferq's own: who takes it over ends the transaction of whoever had it before. */
    private static final String CLAIM_ID = "xferq.claim.";
    private static final int AT_ONCE = 25;
    private static final String KEPT_MS = String.valueOf(Duration.ofDays(365).toMillis());

    public static void main(String[] args) throws Exception {
        String topic = args[0];
        String outbox = "outbox." + args[1];
        create(outbox);
        var sender = new Sender(outbox);
        while (true) {
            try (var claimer = new Claimer(topic, outbox)) {
                while (true) {
                    sender.sendAll();
                    ConsumerRecords<byte[], byte[]> records = claimer.look();
                    if (!records.isEmpty()) {
                        claimer.claim(records);
                    }
                }
            } catch (NotClaimed error) {
                System.out.println("not claimed " + error.getCause());
            }
            // Most likely it was a cancel. Let it have its turn, or the two would end each other's transactions for ever.
            sender.sendAll();
            Thread.sleep(ThreadLocalRandom.current().nextInt(500, 1000));
        }
    }

    /** Nothing was claimed, or nobody knows: what the outbox holds is ours. */
    private static final class NotClaimed extends Exception {
        NotClaimed(KafkaException cause) {
            super(cause);
        }
    }

    /** The right to claim, until somebody else takes it over: every claim fails from then on. */
    private static final class Claimer implements AutoCloseable {
        private final String outbox;
        private final KafkaProducer<byte[], byte[]> producer;
        private final KafkaConsumer<byte[], byte[]> reader;

        Claimer(String topic, String outbox) throws NotClaimed {
            this.outbox = outbox;
            producer = new KafkaProducer<>(
                    Map.of("bootstrap.servers", SERVERS, "transactional.id", CLAIM_ID + topic),
                    new ByteArraySerializer(),
                    new ByteArraySerializer());
            reader = reader(GROUP.replace("{topic}", topic), Map.of("max.poll.records", AT_ONCE));
            try {
                producer.initTransactions();
                // Only now is the head certain: whoever was claiming before has done so, or can't any more.
                Set<TopicPartition> partitions = reader.partitionsFor(topic).stream()
                        .map(found -> new TopicPartition(topic, found.partition()))
                        .collect(Collectors.toSet());
                reader.assign(partitions);
                reader.committed(partitions).forEach((partition, head) -> {
                    if (head == null) {
                        reader.seekToBeginning(List.of(partition));
                    } else {
                        reader.seek(partition, head.offset());
                    }
                });
            } catch (KafkaException error) {
                close();
                throw new NotClaimed(error);
            }
        }

        /** What comes next in the queue; not ours yet. */
        ConsumerRecords<byte[], byte[]> look() {
            return reader.poll(Duration.ofMillis(200));
        }

        /** Moves messages into the outbox and the queue's head past them, in one transaction: then they are ours. */
        void claim(ConsumerRecords<byte[], byte[]> records) throws NotClaimed {
            try {
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    producer.send(new ProducerRecord<>(outbox, null, record.key(), record.value(), record.headers()));
                    ends.put(
                            new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(ends, reader.groupMetadata());
                producer.commitTransaction();
            } catch (KafkaException error) {
                throw new NotClaimed(error);
            }
        }

        @Override
        public void close() {
            producer.close(Duration.ZERO);
            reader.close();
        }
    }

    /** Sends what is in the outbox, one after the other. Another one of this name can't go on from where it started. */
    private static final class Sender {
        private final KafkaConsumer<byte[], byte[]> consumer;

        Sender(String outbox) {
            consumer = reader(outbox, Map.of("group.instance.id", outbox));
            consumer.subscribe(List.of(outbox), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    tellDoubts(partitions);
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}
            });
        }

        /** Sends all that there is now. An error of the commit ends the program: nothing is sent without it. */
        void sendAll() {
            ConsumerRecords<byte[], byte[]> records;
            while (!(records = consumer.poll(Duration.ofMillis(200))).isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    String key = new String(record.key());
                    // Committed before it is sent: never again. The offset's metadata says that it is under way.
                    commit(record, key);
                    send(key, record);
                    commit(record, "");
                }
            }
        }

        private void commit(ConsumerRecord<byte[], byte[]> record, String underWay) {
            consumer.commitSync(Map.of(
                    new TopicPartition(record.topic(), record.partition()),
                    new OffsetAndMetadata(record.offset() + 1, underWay)));
        }

        /** Says what was under way when the one before us died: it may have been sent, or not. */
        private void tellDoubts(Collection<TopicPartition> partitions) {
            consumer.committed(Set.copyOf(partitions)).forEach((partition, behind) -> {
                if (behind != null && !behind.metadata().isEmpty()) {
                    System.out.println("in doubt " + behind.metadata());
                }
            });
        }
    }

    /** Where the mail is sent. */
    private static void send(String key, ConsumerRecord<byte[], byte[]> record) {
        System.out.println("sent " + key);
    }

    /** Creates the outbox if it is not there. One partition: the order stays. Kept for longer than we are ever away. */
    private static void create(String outbox) throws Exception {
        var topic = new NewTopic(outbox, Optional.of(1), Optional.empty()).configs(Map.of("retention.ms", KEPT_MS));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }

    private static KafkaConsumer<byte[], byte[]> reader(String group, Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", SERVERS,
                "group.id", group,
                "isolation.level", "read_committed",
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false));
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static String variable(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
