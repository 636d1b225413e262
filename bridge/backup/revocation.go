package backup

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow/format"
)

// Revocations say what a bridge lets in at a time, so that what is restored from an
// earlier backup lets nothing in that was revoked since: of what is not active, the
// status; of what is active, digests. What is in neither was deleted. FORMAT.md has the
// bytes.
type Revocations struct {
	Format    int       `json:"format"` // 1
	Version   string    `json:"version"`
	Account   string    `json:"account"`
	Directory string    `json:"directory"` // identity of the data directory
	At        time.Time `json:"at"`
	Salt      []byte    `json:"salt"` // of the digests: nobody can make two that are alike

	// Taken are those that are there and not active, by kind and id.
	Taken map[string]map[string]string `json:"taken"`
	// Active are the digests of those that are, 8 bytes each, sorted.
	Active []byte `json:"active"`
}

const (
	revocationFormat = 1
	// MaxRevocations bounds the file, bytes: a million of what is active has 11 MB.
	MaxRevocations = 64 << 20
	saltLen        = 16
	digestLen      = 8
)

// Kinds of what can be revoked.
const (
	kindCertificate = "certificate"
	kindCA          = "ca"
	kindUser        = "user"
	kindPassword    = "password" // of a user; its digest has the hash, so that another one is another
	kindAccessKey   = "access key"
	kindFileKey     = "access key of a file"
	kindAuthorizer  = "authorizer"
	kindTemplate    = "provisioning template"
)

// A door is something that lets somebody in.
type door struct {
	kind, id string
	mark     string // what else has to be as it was, for it to be the same door
	status   string // "": it is open
}

// eachDoor calls f for all that a registry lets in.
func eachDoor(reg registry.Viewer, f func(door)) error {
	return reg.View(func(tx *registry.Tx) error {
		open := func(s registry.Status) string {
			if s == registry.Active {
				return ""
			}
			return string(s)
		}
		for after := ""; ; {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			if err != nil {
				return err
			}
			for _, c := range page {
				f(door{kind: kindCertificate, id: c.ID, status: open(c.Status)})
			}
			if after = next; next == "" {
				break
			}
		}
		return errors.Join(eachSigner(tx, open, f), eachPerson(tx, open, f))
	})
}

// eachSigner calls f for what lets devices in that are not known yet.
func eachSigner(tx *registry.Tx, open func(registry.Status) string, f func(door)) error {
	for after := ""; ; {
		page, next, err := tx.CAs(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, c := range page {
			f(door{kind: kindCA, id: c.ID, mark: fmt.Sprint(c.AutoRegister), status: open(c.Status)})
		}
		if after = next; next == "" {
			break
		}
	}
	for after := ""; ; {
		page, next, err := tx.Authorizers(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, a := range page {
			keys := slices.Sorted(maps.Values(a.Keys))
			f(door{kind: kindAuthorizer, id: a.Name, status: open(a.Status),
				mark: fmt.Sprint(a.Function, a.TokenKey, a.SigningDisabled, keys)})
		}
		if after = next; next == "" {
			break
		}
	}
	for after := ""; ; {
		page, next, err := tx.Templates(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			d := door{kind: kindTemplate, id: t.Name}
			if !t.Enabled {
				d.status = "DISABLED"
			}
			f(d)
		}
		if after = next; next == "" {
			return nil
		}
	}
}

// eachPerson calls f for users, their passwords and their keys.
func eachPerson(tx *registry.Tx, open func(registry.Status) string, f func(door)) error {
	users, err := tx.Users()
	if err != nil {
		return err
	}
	for _, u := range users {
		f(door{kind: kindUser, id: u.Name})
		if u.Password != "" {
			f(door{kind: kindPassword, id: u.Name, mark: u.Password})
		}
	}
	keys, err := tx.AccessKeys("")
	for _, k := range keys {
		d := door{kind: kindAccessKey, id: k.ID, mark: k.Secret, status: open(k.Status)}
		if k.Ended(time.Now()) {
			d.status = "ENDED"
		}
		f(d)
	}
	return err
}

// NewRevocations makes the revocations of a bridge as it is now: of its registry and of
// the access keys in its file. at is before anything of it is read.
func NewRevocations(reg registry.Viewer, keys map[string]pki.AccessKey, about About,
	at time.Time) (*Revocations, error) {
	v := &Revocations{Format: revocationFormat, Version: about.Version, Account: about.Account,
		Directory: about.Directory, At: at.UTC(), Salt: make([]byte, saltLen), Taken: map[string]map[string]string{}}
	rand.Read(v.Salt) // never fails
	var active [][digestLen]byte
	add := func(d door) {
		if d.status == "" {
			active = append(active, v.digest(d))
			return
		}
		if v.Taken[d.kind] == nil {
			v.Taken[d.kind] = map[string]string{}
		}
		v.Taken[d.kind][d.id] = d.status
	}
	if err := eachDoor(reg, add); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	for id, k := range keys {
		add(fileKey(id, k))
	}
	slices.SortFunc(active, func(a, b [digestLen]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, d := range active {
		v.Active = append(v.Active, d[:]...)
	}
	return v, nil
}

func fileKey(id string, k pki.AccessKey) door {
	return door{kind: kindFileKey, id: id, mark: k.Secret + "\x00" + k.Token}
}

func (v *Revocations) digest(d door) (sum [digestLen]byte) {
	mac := hmac.New(sha256.New, v.Salt)
	mac.Write([]byte(strings.Join([]string{d.kind, d.id, d.mark}, "\x00")))
	copy(sum[:], mac.Sum(nil))
	return sum
}

// open says whether what is open in a backup is so still, and else what became of it.
func (v *Revocations) open(d door) (is bool, became string) {
	sum := v.digest(d)
	lo, hi := 0, len(v.Active)/digestLen
	for lo < hi {
		mid := (lo + hi) / 2
		switch c := bytes.Compare(v.Active[mid*digestLen:(mid+1)*digestLen], sum[:]); {
		case c == 0:
			return true, ""
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	if became = v.Taken[d.kind][d.id]; became == "" {
		became = "deleted or changed"
	}
	return false, became
}

func (v *Revocations) count() (active, taken int) {
	for _, m := range v.Taken {
		taken += len(m)
	}
	return len(v.Active) / digestLen, taken
}

// Summary tells in words what the revocations have.
func (v *Revocations) Summary() string {
	active, taken := v.count()
	return fmt.Sprintf("revocations of account %s as of %s: %d that are not active, %d that are", v.Account,
		stamp(v.At), taken, active)
}

// envelope is the file: the document, and the HMAC-SHA256 of its bytes.
type envelope struct {
	Revocations string `json:"revocations"` // base64 of the JSON document, so that its bytes are what was signed
	MAC         string `json:"hmac_sha256"`
}

// Sign returns the file; key is of pki.RevocationKey.
func (v *Revocations) Sign(key []byte) ([]byte, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(envelope{base64.StdEncoding.EncodeToString(doc), hex.EncodeToString(sign(key, doc))})
	return append(raw, '\n'), err
}

func sign(key, doc []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(doc)
	return mac.Sum(nil)
}

// A Sealed is a file of revocations that is read, and not yet known to be the bridge's.
type Sealed struct {
	Revocations
	doc, mac []byte
}

// ParseRevocations reads a file. Who it is of is not known before Check.
func ParseRevocations(raw []byte) (*Sealed, error) {
	if len(raw) > MaxRevocations {
		return nil, fmt.Errorf("revocations: %d bytes, want at most %d", len(raw), MaxRevocations)
	}
	var e envelope
	err := json.Unmarshal(raw, &e)
	var s Sealed
	if err == nil {
		s.doc, err = base64.StdEncoding.DecodeString(e.Revocations)
	}
	if err == nil {
		s.mac, err = hex.DecodeString(e.MAC)
	}
	if err == nil {
		err = json.Unmarshal(s.doc, &s.Revocations)
	}
	if err != nil {
		return nil, fmt.Errorf("revocations: this is no such file, or it is damaged: %w", err)
	}
	if err := format.Check(uint64(max(s.Format, 0)), revocationFormat); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	if s.Format < 1 || len(s.Salt) != saltLen || len(s.Active)%digestLen != 0 || s.Directory == "" {
		return nil, errors.New("revocations: this is no such file, or it is damaged")
	}
	return &s, nil
}

// Check says whether the bridge whose key it is has signed the file.
func (s *Sealed) Check(key []byte) error {
	if !hmac.Equal(s.mac, sign(key, s.doc)) {
		return errors.New("revocations: the file was changed, or another bridge has signed it")
	}
	return nil
}

// List tells of what is not active, sorted.
func (v *Revocations) List() (all []string) {
	for kind, m := range v.Taken {
		for id, status := range m {
			all = append(all, fmt.Sprintf("%s %s: %s", kind, id, status))
		}
	}
	slices.Sort(all)
	return all
}
