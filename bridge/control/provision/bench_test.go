package provision

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkProvision is what a device costs that comes with a claim: a
// certificate, then a thing with it and a policy, two durable updates of the
// registry, from 16 connections at once. syncs/op is how many syncs of the same
// disk take as long.
func BenchmarkProvision(b *testing.B) {
	s, _ := newService(b, nil)
	f, err := os.Create(b.TempDir() + "/sync")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const syncs = 200
	began := time.Now()
	for range syncs {
		if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	one := time.Since(began) / syncs
	var n atomic.Int64
	b.SetParallelism(8)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			made, err := s.CreateCertificate(b.Context(), "", nil)
			if err != nil {
				b.Error(err)
				return
			}
			_, err = s.Provision(b.Context(), &Claim{Template: "fleet", Token: made.Token,
				Parameters: map[string]string{"SerialNumber": fmt.Sprint(n.Add(1))}})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(one.Nanoseconds()), "syncs/op")
}
