package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/control/audit"
)

const (
	// digestsFile is in the folder that it is about.
	digestsFile = "digests.json"
	// mostPKIFiles and maxPKIFile bound what is looked at: an operator's keys and
	// certificates, and no backup that somebody put beside them.
	mostPKIFiles = 100
	maxPKIFile   = 1 << 20
)

// unwatchedFiles are those of pki/ that the bridge itself writes now and then.
var unwatchedFiles = []string{digestsFile, "ticket-keys"}

// pkiFiles remember what was in the files of pki/, so that the audit log says when
// somebody edited one: at the start and at a reload, when it begins to count.
type pkiFiles struct {
	dir  string
	keep func(...audit.Record) error // durable when it returns
	mu   sync.Mutex                  // one look at a time; held over reads and writes of the disk
}

// digests are what digests.json has. Digests are HMAC-SHA256 with Salt, so that the
// audit log may show them: a secret that somebody made up cannot be guessed by them.
type digests struct {
	Salt  []byte            `json:"salt"`
	Files map[string]string `json:"files"` // by name, hexadecimal
}

// look keeps a record of each file that is not as it was when look was called last.
// The first call in the life of a data directory keeps none.
func (p *pkiFiles) look() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var was digests
	path := filepath.Join(p.dir, digestsFile)
	text, err := os.ReadFile(path)
	first := errors.Is(err, fs.ErrNotExist)
	if err != nil && !first {
		return err
	}
	if !first {
		first = json.Unmarshal(text, &was) != nil || len(was.Salt) < sha256.Size // as after a crash without it
	}
	if first {
		was = digests{Salt: make([]byte, sha256.Size)}
		rand.Read(was.Salt)
	}
	now, err := p.read(was.Salt)
	if err != nil || !first && maps.Equal(was.Files, now.Files) {
		return err
	}
	if !first {
		if err := p.keep(changesOf(was.Files, now.Files)...); err != nil {
			return err
		}
	}
	if text, err = json.Marshal(now); err != nil {
		return err
	}
	return durable.Write(path, text, 0o600)
}

// changesOf are the records of files that came, went or are others now.
func changesOf(was, now map[string]string) (all []audit.Record) {
	names := maps.Clone(now)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, was)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if was[name] == now[name] {
			continue
		}
		r := audit.Record{Source: audit.SourcePKI, Action: "Apply", Target: "pki/" + name,
			Before: digestDoc(was[name]), After: digestDoc(now[name])}
		if now[name] == "" {
			r.Action = "Remove"
		}
		all = append(all, r)
	}
	return all
}

func digestDoc(digest string) json.RawMessage {
	if digest == "" {
		return nil
	}
	return json.RawMessage(`{"digest":"` + digest + `"}`)
}

// read reads the files as they are.
func (p *pkiFiles) read(salt []byte) (digests, error) {
	now := digests{Salt: salt, Files: map[string]string{}}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return now, err
	}
	for _, e := range entries {
		name := e.Name()
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxPKIFile || strings.HasPrefix(name, ".") ||
			slices.Contains(unwatchedFiles, name) || len(now.Files) == mostPKIFiles {
			continue // what is gone meanwhile is seen the next time
		}
		text, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			return now, err
		}
		mac := hmac.New(sha256.New, salt)
		mac.Write(text)
		now.Files[name] = hex.EncodeToString(mac.Sum(nil))
	}
	return now, nil
}

// lookAtKeys keeps what was edited in pki/. That is not worth a bridge that does not
// start.
func (s *Server) lookAtKeys() {
	if err := s.pkiFiles.look(); err != nil {
		s.log.Error("the audit log could not keep what was edited in the folder of keys", "dir", s.pkiFiles.dir,
			"err", err)
	}
}

// openPKIFiles makes what looks at pki/, and looks.
func (a *assembly) openPKIFiles() error {
	a.pkiFiles = &pkiFiles{dir: a.at("pki"), keep: func(all ...audit.Record) error {
		return audit.Keep(a.registry, all...) // the log may not run yet
	}}
	a.lookAtKeys()
	return nil
}
