import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import net.sourceforge.argparse4j.inf.ArgumentParser;
import net.sourceforge.argparse4j.inf.Namespace;
import org.apache.kafka.tools.TransactionalMessageCopier;

/**
 * Kafka's TransactionalMessageCopier as it is, one for each partition as Kafka's own system tests run it, side by side
 * in one process so that they can be warm before the clock runs.
 */
final class CopierLoop {
    public static void main(String[] args) throws Exception {
        Job.run(CopierLoop::drain);
    }

    private static Job.Done drain(Job job, Job.Source source, String tag, Job.Start start) throws Exception {
        Method parser = TransactionalMessageCopier.class.getDeclaredMethod("argParser");
        parser.setAccessible(true); // main() would end the process
        List<Namespace> copiers = new ArrayList<>();
        long messages = 0;
        long transactions = 0;
        for (var range : source.ranges().entrySet()) {
            long count = range.getValue()[1] - range.getValue()[0];
            if (count == 0) {
                continue;
            }
            messages += count;
            transactions += (count + job.transaction() - 1) / job.transaction();
            String name = job.name() + "." + tag + "." + range.getKey();
            copiers.add(((ArgumentParser) parser.invoke(null)).parseArgs(new String[] {
                "--broker-list", job.bootstrap(),
                "--input-topic", source.topic(),
                "--input-partition", String.valueOf(range.getKey()),
                "--output-topic", source.copyTopic(),
                "--max-messages", String.valueOf(count),
                "--consumer-group", name,
                "--transactional-id", name,
                "--transaction-size", String.valueOf(job.transaction()),
            }));
        }
        start.await();
        try (ExecutorService pool = Executors.newFixedThreadPool(Math.max(1, copiers.size()))) {
            List<Future<?>> running = new ArrayList<>();
            for (Namespace copier : copiers) {
                running.add(pool.submit(() -> TransactionalMessageCopier.runEventLoop(copier)));
            }
            for (Future<?> one : running) {
                one.get();
            }
        }
        return new Job.Done(messages, transactions);
    }
}
