package server

import "testing"

// Where no bridge runs, a delivery stream that was declared is known by its
// buffer, so that rule why does not call it missing.
func TestDeliveryStreamWithoutABridge(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"delivery-streams/a.json": aDelivery})
	b := start(t, cfg)
	if c := b.compiler.Catalog.(catalog); !c.HasDeliveryStream("lake") || c.HasDeliveryStream("other") {
		t.Error("the running bridge does not know what is declared")
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if c := idle(t, cfg).compiler.Catalog.(catalog); !c.HasDeliveryStream("lake") || c.HasDeliveryStream("other") {
		t.Error("without a bridge it is not known what was declared")
	}
}
