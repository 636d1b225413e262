// A data stream through @aws-sdk/client-kinesis, which speaks HTTP/2 by
// itself: over TLS, or with prior knowledge where the endpoint is http://.
// argv[2] is the endpoint, argv[3] a name for the stream.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CreateStreamCommand, DeleteStreamCommand, DescribeStreamConsumerCommand, GetRecordsCommand, GetShardIteratorCommand, KinesisClient,
  ListShardsCommand, PutRecordCommand, PutRecordsCommand, RegisterStreamConsumerCommand, ResourceInUseException, ResourceNotFoundException,
  SplitShardCommand, SubscribeToShardCommand, waitUntilStreamExists, waitUntilStreamNotExists,
} from '@aws-sdk/client-kinesis'

const [endpoint, StreamName] = process.argv.slice(2)
const client = new KinesisClient({ endpoint, maxAttempts: 1 })
assert.equal(client.config.requestHandler.metadata.handlerProtocol, 'h2')
const run = (Command, input) => client.send(new Command(input))
const step = text => console.log(`${new URL(endpoint).protocol} ${text}`)
const text = records => records.map(r => Buffer.from(r.Data).toString())
const ShardId = 'shardId-000000000000'

step('create, put, read')
await run(CreateStreamCommand, { StreamName, ShardCount: 1 })
const { reason } = await waitUntilStreamExists({ client, maxWaitTime: 20, minDelay: 0.1, maxDelay: 0.2 }, { StreamName })
const { StreamARN } = (reason.StreamDescription ?? reason.Table ?? reason)
assert.match(StreamARN, new RegExp(`:stream/${StreamName}$`))
const put = await run(PutRecordsCommand, { StreamName, Records: [0, 1, 2].map(i => ({ Data: Buffer.from(`r${i}`), PartitionKey: `k${i}` })) })
assert.equal(put.FailedRecordCount, 0)
const { ShardIterator } = await run(GetShardIteratorCommand, { StreamName, ShardId, ShardIteratorType: 'TRIM_HORIZON' })
const read = await run(GetRecordsCommand, { ShardIterator })
assert.deepEqual(text(read.Records), ['r0', 'r1', 'r2'])
assert.deepEqual(read.Records.map(r => r.SequenceNumber), put.Records.map(r => r.SequenceNumber))
assert.ok(read.NextShardIterator && read.MillisBehindLatest === 0)
// Many requests at once share the connection.
const burst = await Promise.all(Array.from({ length: 100 }, (_, i) => run(PutRecordCommand, { StreamName, Data: Buffer.from(`b${i}`), PartitionKey: 'b' })))
assert.equal(new Set(burst.map(r => r.SequenceNumber)).size, 100)
await assert.rejects(run(PutRecordCommand, { StreamName: 'none', Data: Buffer.from('x'), PartitionKey: 'k' }), ResourceNotFoundException)

step('subscribe')
const { Consumer: { ConsumerARN } } = await run(RegisterStreamConsumerCommand, { StreamARN, ConsumerName: 'app' })
while ((await run(DescribeStreamConsumerCommand, { ConsumerARN })).ConsumerDescription.ConsumerStatus !== 'ACTIVE') await sleep(50)
const subscribe = async StartingPosition => {
  const began = Date.now()
  const { EventStream } = await run(SubscribeToShardCommand, { ConsumerARN, ShardId, StartingPosition })
  const events = EventStream[Symbol.asyncIterator]()
  return {
    began,
    // until takes events until one is such, and returns the records of all.
    async until(such) {
      const records = []
      for (;;) {
        const { value, done } = await events.next()
        assert.ok(!done, 'the subscription ended')
        records.push(...value.SubscribeToShardEvent.Records)
        if (such(value.SubscribeToShardEvent, records)) return records
      }
    },
    next: () => events.next(),
  }
}
const first = await subscribe({ Type: 'AFTER_SEQUENCE_NUMBER', SequenceNumber: put.Records[0].SequenceNumber })
const there = await first.until((_, all) => all.length >= 102)
assert.deepEqual(text(there).slice(0, 2), ['r1', 'r2'])
for (const word of ['live', 'again']) {
  await run(PutRecordCommand, { StreamName, Data: Buffer.from(word), PartitionKey: 'k' })
  assert.deepEqual(text(await first.until(e => e.Records.length > 0)), [word])
}

step('a second subscription: refused at once, after five seconds it takes over')
await assert.rejects(subscribe({ Type: 'LATEST' }), ResourceInUseException)
await first.until(e => e.Records.length === 0 && e.ContinuationSequenceNumber) // a heartbeat
await sleep(Math.max(0, first.began + 5500 - Date.now()))
const second = await subscribe({ Type: 'LATEST' })
await assert.rejects(first.until(() => false), ResourceInUseException)

step('the end of the shard')
await run(PutRecordCommand, { StreamName, Data: Buffer.from('last'), PartitionKey: 'k' })
await run(SplitShardCommand, { StreamName, ShardToSplit: ShardId, NewStartingHashKey: String(2n ** 127n) })
let end
assert.deepEqual(text(await second.until(e => (end = e).ChildShards?.length > 0)), ['last'])
assert.deepEqual(end.ChildShards.map(c => [c.ShardId, c.ParentShards]), [['shardId-000000000001', [ShardId]], ['shardId-000000000002', [ShardId]]])
assert.equal(end.ContinuationSequenceNumber, undefined)
assert.ok((await second.next()).done)
assert.equal((await run(ListShardsCommand, { StreamName, ShardFilter: { Type: 'AT_LATEST' } })).Shards.length, 2)

step('delete')
await run(DeleteStreamCommand, { StreamName, EnforceConsumerDeletion: true })
await waitUntilStreamNotExists({ client, maxWaitTime: 20, minDelay: 0.1, maxDelay: 0.2 }, { StreamName })
client.destroy()
step('done')
