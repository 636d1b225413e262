package streams

import (
	"crypto/md5"
	"encoding/json"
	"math/big"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/deploy/conformance"
)

func TestShardOfVectors(t *testing.T) {
	total := map[string]int{}
	for i, line := range conformance.Kind(t, "streams-hash.jsonl", "hash", "ranges") {
		var v struct {
			Kind   string
			Key    string
			Hash   string
			N      int
			Ranges [][2]string
			Shards map[string]int
			Shard  map[string]int
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		total[v.Kind]++
		switch v.Kind {
		case "hash":
			h := md5.Sum([]byte(v.Key))
			if got := new(big.Int).SetBytes(h[:]).String(); got != v.Hash {
				t.Errorf("hash of %q: %s, want %s", v.Key, got, v.Hash)
			}
			if len(v.Shard)+len(v.Shards) == 0 {
				t.Fatalf("line %d has no shards", i+1)
			}
			for _, m := range []map[string]int{v.Shard, v.Shards} {
				for n, want := range m {
					n, _ := strconv.Atoi(n)
					if got := ShardOf(v.Key, n); got != want {
						t.Errorf("ShardOf(%q, %d) = %d, want %d", v.Key, n, got, want)
					}
				}
			}
		case "ranges":
			for i, r := range v.Ranges {
				for _, edge := range r {
					if got := shardOf(bigHash(edge), v.N); got != i {
						t.Errorf("hash %s of %d shards: %d, want %d", edge, v.N, got, i)
					}
				}
			}
		}
	}
	t.Logf("vectors: %v", total)
	if total["hash"] == 0 || total["ranges"] == 0 {
		t.Error("no vectors of a kind")
	}
}

func bigHash(decimal string) (h [16]byte) {
	n, _ := new(big.Int).SetString(decimal, 10)
	n.FillBytes(h[:])
	return h
}

func TestShardOfAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, MaxShards).Draw(t, "n")
		var h [16]byte
		copy(h[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "h"))
		width := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
		if rapid.Bool().Draw(t, "edge") { // at a boundary of ranges, or one before
			e := new(big.Int).Mul(width, big.NewInt(int64(rapid.IntRange(0, n-1).Draw(t, "i"))))
			if rapid.Bool().Draw(t, "before") && e.Sign() > 0 {
				e.Sub(e, big.NewInt(1))
			}
			h = [16]byte{}
			e.FillBytes(h[:])
		}
		want := new(big.Int).Div(new(big.Int).SetBytes(h[:]), width).Int64()
		if got := shardOf(h, n); int64(got) != min(want, int64(n-1)) {
			t.Fatalf("shardOf(%x, %d) = %d, want %d", h, n, got, want)
		}
	})
}
