import java.net.URI;
import java.util.ArrayList;
import java.util.concurrent.CountDownLatch;

import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.common.KinesisClientUtil;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.coordinator.WorkerStateChangeListener;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * Two workers of one consumer application, which print what they are given, a line at a time, until standard input
 * ends. A line there ends worker one. Arguments: kinesisURL dynamodbURL stream application polling|fanout.
 */
public final class Consume {
    private static final CountDownLatch BEGUN = new CountDownLatch(1);

    private static void say(String what) {
        synchronized (System.out) {
            System.out.println(what);
            System.out.flush();
        }
    }

    /** Prints what happens to one shard. */
    private static final class Printer implements ShardRecordProcessor {
        private final String worker;
        private String shard;

        Printer(String worker) {
            this.worker = worker;
        }

        @Override
        public void initialize(InitializationInput in) {
            shard = in.shardId();
            say("begin " + worker + " " + shard);
            BEGUN.countDown();
        }

        @Override
        public void processRecords(ProcessRecordsInput in) {
            for (var r : in.records()) {
                var data = new byte[r.data().remaining()];
                r.data().get(data);
                say("record " + worker + " " + shard + " " + r.sequenceNumber() + " " + r.subSequenceNumber() + " " + r.partitionKey()
                        + " " + new String(data));
            }
            checkpoint(in.checkpointer());
        }

        @Override
        public void leaseLost(LeaseLostInput in) {
            say("lost " + worker + " " + shard);
        }

        @Override
        public void shardEnded(ShardEndedInput in) {
            checkpoint(in.checkpointer());
            say("end " + worker + " " + shard);
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput in) {
            checkpoint(in.checkpointer());
        }

        private void checkpoint(RecordProcessorCheckpointer c) {
            try {
                c.checkpoint();
            } catch (ShutdownException e) {
                // the lease is another worker's by now, which will say so
            } catch (InvalidStateException e) {
                throw new IllegalStateException(e);
            }
        }
    }

    private static Scheduler scheduler(String[] args, String worker) {
        var region = Region.of("eu-local-1");
        var kinesis = KinesisClientUtil.createKinesisAsyncClient(
                KinesisAsyncClient.builder().region(region).endpointOverride(URI.create(args[0])));
        var dynamo = DynamoDbAsyncClient.builder().region(region).endpointOverride(URI.create(args[1]))
                .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("leases", "leases"))).build();
        var metrics = CloudWatchAsyncClient.builder().region(region).endpointOverride(URI.create("http://127.0.0.1:1")).build();
        var tracker = new SingleStreamTracker(args[2],
                InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON));
        var c = new ConfigsBuilder(tracker, args[3], kinesis, dynamo, metrics, worker, () -> new Printer(worker));
        var retrieval = c.retrievalConfig();
        if (args[4].equals("polling")) {
            retrieval = retrieval.retrievalSpecificConfig(new PollingConfig(args[2], kinesis).idleTimeBetweenReadsInMillis(250));
        } else {
            retrieval = retrieval.retrievalSpecificConfig(new FanOutConfig(kinesis).streamName(args[2]).applicationName(args[3]));
        }
        // Quicker than the defaults, which suit an application of years.
        var leases = c.leaseManagementConfig().failoverTimeMillis(3000).shardSyncIntervalMillis(2000)
                .leasesRecoveryAuditorExecutionFrequencyMillis(2000);
        leases.workerUtilizationAwareAssignmentConfig().disableWorkerMetrics(true).workerMetricsReporterFreqInMillis(1000)
                .inMemoryWorkerMetricsCaptureFrequencyMillis(500);
        var coordinator = c.coordinatorConfig().parentShardPollIntervalMillis(500).shardConsumerDispatchPollIntervalMillis(250)
                .workerStateChangeListener(state -> {
                    if (state == WorkerStateChangeListener.WorkerState.STARTED) {
                        say("up " + worker);
                    }
                });
        return new Scheduler(c.checkpointConfig(), coordinator, leases, c.lifecycleConfig(),
                c.metricsConfig().metricsFactory(new NullMetricsFactory()), c.processorConfig(), retrieval);
    }

    public static void main(String[] args) throws Exception {
        var workers = new ArrayList<Scheduler>();
        for (var name : new String[] {"one", "two"}) {
            var s = scheduler(args, name);
            workers.add(s);
            var thread = new Thread(s, "worker " + name);
            thread.setDaemon(true);
            thread.start();
            BEGUN.await(); // two that make the tables at once give up (seen with 3.5.1)
        }
        for (int c; (c = System.in.read()) >= 0;) {
            if (c == '\n') {
                workers.remove(0).startGracefulShutdown().get();
                say("down one");
            }
        }
        for (var s : workers) {
            s.startGracefulShutdown();
        }
        for (var s : workers) {
            s.startGracefulShutdown().get();
        }
        System.exit(0);
    }
}
