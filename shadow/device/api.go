package device

import "context"

// A Device is the device half of one shadow. All methods may be called from
// several goroutines.
type Device struct{}

// New reads the shadow's state from store. name is "" for the classic shadow.
func New(store Store, thing, name string, o Options) (*Device, error) { return &Device{}, nil }

// Handle registers h for the places in desired that pattern names: keys
// joined by dots, "*" for any one key, such as "sensors.*.every". h gets the
// whole desired value found there; the longest pattern wins. Call it before
// Run.
func (d *Device) Handle(pattern string, h Handler) {}

// Report merges patch (anything that marshals to a JSON object; null members
// remove) into reported. It is durable on the device when Report returns,
// and is sent when connected. Equal values cost nothing.
func (d *Device) Report(patch any) error { return nil }

// Desire merges patch into desired: an operator's edit on the device itself.
// The cloud's value wins when it changed the same place meanwhile.
func (d *Device) Desire(patch any) error { return nil }

// Topics returns the topics to subscribe to, before Connected is called.
func (d *Device) Topics() []string { return nil }

// Connected starts a reconciliation over pub. Call it after each connection's
// subscriptions are acknowledged.
func (d *Device) Connected(pub Publish) {}

// Disconnected stops sending until Connected is called again.
func (d *Device) Disconnected() {}

// Receive takes a message; topics of no concern are ignored. It never blocks
// and keeps no reference to payload.
func (d *Device) Receive(topic string, payload []byte) {}

// Run applies, sends and answers until ctx is done, then returns nil. A
// Report not yet sent is kept for the next start.
func (d *Device) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Versions returns the count of changes made here and the version of the
// cloud's document last seen.
func (d *Device) Versions() (local, cloud uint64) { return 0, 0 }

// Desired returns the section as last known; not to be changed.
func (d *Device) Desired() map[string]any { return nil }

// Reported returns the section as kept here; not to be changed.
func (d *Device) Reported() map[string]any { return nil }
