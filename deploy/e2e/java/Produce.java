import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

import com.google.common.util.concurrent.FutureCallback;
import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.MoreExecutors;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

/**
 * Puts the records 1 to count of each of some keys with the producer library, a key's next record when the last one is
 * stored: the library keeps no order among those under way. Arguments: host port caFile stream keys count.
 */
public final class Produce {
    private final KinesisProducer producer;
    private final String stream;
    private final int count;
    private final CountDownLatch left;
    private final AtomicInteger tries = new AtomicInteger();

    private Produce(String[] args) {
        var config = new KinesisProducerConfiguration()
                .setKinesisEndpoint(args[0]).setKinesisPort(Long.parseLong(args[1])).setCaCertFile(args[2]).setRegion("eu-local-1")
                .setMetricsLevel("none").setLogLevel("warning").setRecordMaxBufferedTime(20).setRecordTtl(60_000);
        producer = new KinesisProducer(config);
        stream = args[3];
        left = new CountDownLatch(Integer.parseInt(args[4]));
        count = Integer.parseInt(args[5]);
    }

    private void put(String key, int n) {
        var data = ByteBuffer.wrap((key + "/" + n).getBytes(StandardCharsets.UTF_8));
        Futures.addCallback(producer.addUserRecord(stream, key, data), new FutureCallback<UserRecordResult>() {
            @Override
            public void onSuccess(UserRecordResult result) {
                tries.addAndGet(result.getAttempts().size());
                if (n < count) {
                    put(key, n + 1);
                } else {
                    left.countDown();
                }
            }

            @Override
            public void onFailure(Throwable cause) {
                System.err.println(key + "/" + n + " was not stored: " + cause);
                System.exit(1);
            }
        }, MoreExecutors.directExecutor());
    }

    public static void main(String[] args) throws InterruptedException {
        var p = new Produce(args);
        long keys = p.left.getCount();
        for (int i = 0; i < keys; i++) {
            p.put("key-" + i, 1);
        }
        p.left.await();
        p.producer.flushSync();
        p.producer.destroy();
        System.out.println(keys * p.count + " records stored in " + p.tries + " tries");
    }
}
