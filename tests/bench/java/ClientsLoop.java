import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The loop of KafkaProducer's documentation: poll, send, sendOffsetsToTransaction, commitTransaction. A thread with a
 * consumer and a producer of its own for each share of the partitions.
 */
final class ClientsLoop {
    private static final List<Header> LOG_HEADERS = List.of(new RecordHeader("type", "AdminRebind".getBytes()));
    private static final int POLLED = 500;

    public static void main(String[] args) throws Exception {
        Job.run(ClientsLoop::drain);
    }

    private static Job.Done drain(Job job, Job.Source source, String tag, Job.Start start) throws Exception {
        int threads = Math.min(job.threads(), source.ranges().size());
        var ready = new CountDownLatch(threads);
        var go = new CountDownLatch(1);
        try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            List<Future<Job.Done>> shares = new ArrayList<>();
            for (int number = 0; number < threads; number++) {
                int share = number;
                shares.add(pool.submit((Callable<Job.Done>) () -> {
                    try {
                        var worker = new ClientsLoop(job, source, tag, share, threads);
                        ready.countDown();
                        go.await();
                        return worker.drain();
                    } catch (Exception error) {
                        ready.countDown();
                        error.printStackTrace();
                        throw error;
                    }
                }));
            }
            ready.await();
            start.await();
            go.countDown();
            long messages = 0;
            long transactions = 0;
            for (Future<Job.Done> share : shares) {
                messages += share.get().messages();
                transactions += share.get().transactions();
            }
            return new Job.Done(messages, transactions);
        }
    }

    private final Job job;
    private final Job.Source source;
    private final Map<Integer, Long> ends = new HashMap<>();
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final KafkaProducer<byte[], byte[]> producer;
    private final Rebind rebind;

    private ClientsLoop(Job job, Job.Source source, String tag, int share, int shares) {
        this.job = job;
        this.source = source;
        this.rebind = new Rebind(source.queue(), job.reason(), job.nodeId());
        String name = job.name() + "." + tag + "." + share;
        consumer = new KafkaConsumer<>(
                Map.ofEntries(
                        Map.entry("bootstrap.servers", job.bootstrap()),
                        Map.entry("group.id", name),
                        Map.entry("enable.auto.commit", false),
                        Map.entry("auto.offset.reset", "earliest"),
                        Map.entry("isolation.level", "read_committed"),
                        Map.entry("max.poll.records", Math.min(POLLED, job.transaction())),
                        Map.entry("fetch.max.bytes", 16 << 20),
                        Map.entry("max.partition.fetch.bytes", 8 << 20),
                        Map.entry("fetch.max.wait.ms", 100),
                        Map.entry("receive.buffer.bytes", 1 << 20)),
                new ByteArrayDeserializer(),
                new ByteArrayDeserializer());
        producer = new KafkaProducer<>(
                Map.of(
                        "bootstrap.servers", job.bootstrap(),
                        "transactional.id", name,
                        "acks", "all",
                        "linger.ms", 5,
                        "batch.size", 512 << 10,
                        "buffer.memory", 256L << 20,
                        "max.request.size", 4 << 20,
                        "send.buffer.bytes", 1 << 20),
                new ByteArraySerializer(),
                new ByteArraySerializer());
        List<TopicPartition> assigned = new ArrayList<>();
        source.ranges().forEach((partition, range) -> {
            if (partition % shares == share && range[1] > range[0]) {
                assigned.add(new TopicPartition(source.topic(), partition));
                ends.put(partition, range[1]);
            }
        });
        consumer.assign(assigned);
        assigned.forEach(partition -> consumer.seek(partition, source.ranges().get(partition.partition())[0]));
        producer.initTransactions();
    }

    private Job.Done drain() throws Exception {
        long messages = 0;
        long transactions = 0;
        while (!ends.isEmpty()) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            int count = 0;
            Moment now = Moment.now();
            producer.beginTransaction();
            while (count < job.transaction() && !ends.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    send(record, now);
                    offsets.put(
                            new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1));
                    if (record.offset() + 1 >= ends.get(record.partition())) {
                        ends.remove(record.partition());
                    }
                    count++;
                }
            }
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            producer.commitTransaction();
            messages += count;
            transactions++;
        }
        return new Job.Done(messages, transactions);
    }

    private void send(ConsumerRecord<byte[], byte[]> record, Moment now) throws Exception {
        byte[] value = record.value();
        Rebind.Moved moved = rebind.apply(record.key(), record.headers(), value == null ? 0 : value.length, now);
        // What fails in a transaction fails its commit: no callback is needed.
        producer.send(new ProducerRecord<>(
                moved.topic(),
                record.partition() % job.destinationPartitions(),
                record.timestamp(),
                record.key(),
                value,
                moved.headers()));
        producer.send(new ProducerRecord<>(
                source.logTopic(), record.partition() % job.logPartitions(), null, record.key(), moved.log(), LOG_HEADERS));
    }
}
