package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/tidemill/tidemill/deploy/rig"
)

type keys = aws.Credentials

type bridge struct {
	*rig.Bridge
	keys  keys
	roots *x509.CertPool
}

func startBridge(ctx context.Context, bin rig.Bin, dir string) (*bridge, error) {
	b, err := rig.NewBridge(bin, dir, "plaintext = \"loopback\"\n[log]\nlevel = \"warn\"\n")
	if err != nil {
		return nil, err
	}
	if err := b.Start(); err != nil {
		return nil, err
	}
	if err := b.Ready(ctx); err != nil {
		b.Kill()
		return nil, err
	}
	pki := filepath.Join(b.Dir, "pki")
	shared, err := config.LoadSharedConfigProfile(ctx, "default", func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{filepath.Join(pki, "access-keys")}, []string{os.DevNull}
	})
	if err != nil {
		b.Kill()
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		b.Kill()
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &bridge{b, shared.Credentials, roots}, nil
}

// peer is the bridge over TLS if there are roots, else without.
func (b *bridge) peer(name string, roots *x509.CertPool) *peer {
	p := &peer{Process: &b.Process, name: name, addr: b.HTTPS, keys: b.keys}
	if roots != nil {
		p.tls = &tls.Config{RootCAs: roots, ServerName: "localhost"}
	}
	return p
}

// startKinesalite starts one without delays, with its store in memory, which
// is its default.
func startKinesalite(ctx context.Context, dir, logs string) (*peer, error) {
	addr, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	script := fmt.Sprintf(`require(%q)({createStreamMs: 0, deleteStreamMs: 0, updateStreamMs: 0, shardLimit: 100}).listen(%s, "127.0.0.1")`,
		filepath.Join(dir, "node_modules", "kinesalite"), port)
	p := &peer{name: "kinesalite", addr: addr, keys: keys{AccessKeyID: "bench", SecretAccessKey: "bench"},
		Process: &rig.Process{Path: "node", Args: []string{"-e", script},
			LogFile: filepath.Join(logs, "kinesalite.log")}}
	if err := p.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = rig.Until(ctx, "kinesalite", func() (bool, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false, err
		}
		return true, c.Close()
	})
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// cpu is what the server's process has used, user and system, to 10 ms.
func (p *peer) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, err
	}
	// Fields 14 and 15; the name, field 2, may hold spaces but ends in ")".
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.PID(), text)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100 on Linux
}
