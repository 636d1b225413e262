package pki

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"
)

// ticketKeysFile has the keys that TLS session tickets are sealed with, so that
// clients resume their sessions with a bridge that was restarted: a whole fleet
// that comes back is then spared the signatures of full handshakes.
const ticketKeysFile = "ticket-keys"

const (
	// ticketTurn is how long one key seals tickets, and ticketKeys how many are
	// taken, so a ticket is good for two to three days. Whoever gets a key can
	// read the TLS 1.2 sessions of that time, so none is kept for longer.
	ticketTurn = 24 * time.Hour
	ticketKeys = 3
)

// A ticketKey seals session tickets.
type ticketKey struct {
	made time.Time
	key  [32]byte
}

// openTicketKeys reads the keys, and makes a new one if it is time.
func (p *PKI) openTicketKeys() error {
	text, err := p.readSecret(ticketKeysFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if p.tickets, err = parseTicketKeys(string(text)); err != nil {
		return fmt.Errorf("%s: %w; without the file a new one is made", ticketKeysFile, err)
	}
	_, err = p.turnTicketKeys()
	return err
}

func parseTicketKeys(text string) (keys []ticketKey, err error) {
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if line == "" && n == 0 {
			break
		}
		made, digits, _ := strings.Cut(line, " ")
		var k ticketKey
		if k.made, err = time.Parse(time.RFC3339, made); err != nil || len(digits) != 2*len(k.key) {
			return nil, fmt.Errorf("line %d: want a time and 64 hexadecimal digits", n+1)
		}
		if _, err := hex.Decode(k.key[:], []byte(digits)); err != nil {
			return nil, fmt.Errorf("line %d: want a time and 64 hexadecimal digits", n+1)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// turnTicketKeys makes a new key if the latest had its time, drops those that
// are too old, and returns when that is to be done again. If the file cannot be
// written, all stays as it is.
func (p *PKI) turnTicketKeys() (next time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.opts.Now().UTC().Truncate(time.Second)
	var keys []ticketKey
	for _, k := range p.tickets {
		// One of the future is from a clock that was wrong; it would stay for
		// who knows how long.
		if age := now.Sub(k.made); age >= 0 && age < ticketKeys*ticketTurn {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 || now.Sub(keys[0].made) >= ticketTurn {
		k := ticketKey{made: now}
		_, _ = rand.Read(k.key[:]) // never fails
		keys = append([]ticketKey{k}, keys...)
	}
	keys = keys[:min(len(keys), ticketKeys)]
	if len(keys) != len(p.tickets) || keys[0] != p.tickets[0] {
		var text strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&text, "%s %x\n", k.made.Format(time.RFC3339), k.key)
		}
		if err := p.write(ticketKeysFile, []byte(text.String()), 0o600); err != nil {
			return 0, err
		}
		p.tickets = keys
	}
	for _, c := range p.configs {
		p.seal(c)
	}
	return keys[0].made.Add(ticketTurn).Sub(now), nil
}

// seal gives c the keys. mu is held.
func (p *PKI) seal(c *tls.Config) {
	keys := make([][32]byte, len(p.tickets))
	for i, k := range p.tickets {
		keys[i] = k.key
	}
	c.SetSessionTicketKeys(keys)
}

// Run makes new keys for session tickets as time goes by, until ctx ends. What
// fails is logged and tried again.
func (p *PKI) Run(ctx context.Context, log *slog.Logger) error {
	for {
		next, err := p.turnTicketKeys()
		if err != nil {
			next = time.Hour
			log.Warn("no new key for TLS session tickets, will retry", "err", err, "in", next)
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return nil
		}
	}
}
