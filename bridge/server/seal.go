package server

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// sealFile is the part of the data directory that has the key of what is sealed.
const sealFile = "seal.json"

// openSeal reads the key of what is sealed, or makes it.
func (a *assembly) openSeal() error {
	doc, err := secretfile.ReadConfig(a.at(sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		doc = seal.New()
		err = a.dir.Write(sealFile, doc)
	}
	if err != nil {
		return fmt.Errorf("data_dir: %s: %w", sealFile, err)
	}
	if a.seal, err = seal.Parse(doc); err == nil {
		return nil
	}
	if !a.cfg.AcceptLoss {
		return fmt.Errorf("data_dir: %s %w: put it back from a backup, or start once with -accept-loss: "+
			"delivery streams of the API, whose passwords it has, do not run then", a.at(sealFile), err)
	}
	a.log.Error("the key of what is sealed is damaged, and another one takes its place", "file", a.at(sealFile))
	doc = seal.New()
	if err := a.dir.Write(sealFile, doc); err != nil {
		return err
	}
	a.seal, err = seal.Parse(doc)
	return err
}
