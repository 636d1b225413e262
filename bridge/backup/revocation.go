package backup

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
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
