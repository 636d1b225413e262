package main

import (
	"context"
	"embed"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/tidemill/tidemill/deploy/packaging/deb"
	"github.com/tidemill/tidemill/deploy/systemd"
)

// files are those that packages alone have: maintainer scripts (deb-*(5)), folders
// for systemd-tmpfiles and conffiles. Units, users and rules are of deploy/systemd.
//
//go:embed files
var files embed.FS

const (
	homepage   = "https://github.com/tidemill/tidemill"
	maintainer = "Tidemill maintainers <tidemill@users.noreply.github.com>"
	// What makes users and folders, of systemd or alone. What enables units is essential.
	needs = "systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles"
)

// A pack is a package before it is written.
type pack struct {
	name, arch string
	deb        deb.Package
	err        error
}

// agent is the agent's package.
func (b *build) agent(ctx context.Context, of, program string) (*pack, error) {
	p := b.begin("tidemill-agent", of, `sensor readings of this device to a tidemill-bridge
 Reads the sensors of a board, keeps their readings over weeks without a link,
 and sends them to a tidemill-bridge or another MQTT broker.
 .
 It starts once there is a /etc/tidemill/agent.toml: "tidemill-bridge thing kit"
 writes one with the device's identity. To purge the package deletes both, and
 the readings that wait in /var/lib/tidemill; to remove it deletes neither.`)
	p.put("usr/lib/udev/rules.d/60-tidemill.rules", p.unit("60-tidemill.rules"), 0o644)
	p.put("usr/lib/systemd/system/tidemill-agent-rotate.service", p.unit("tidemill-agent-rotate.service"), 0o644)
	p.put("usr/lib/systemd/system/tidemill-agent-rotate.timer", p.unit("tidemill-agent-rotate.timer"), 0o644)
	p.conf("etc/modules-load.d/tidemill-agent.conf", "agent.modules")
	return b.end(ctx, p, program)
}

// bridge is the bridge's package. It has those of agents in it, for kits of
// devices.
func (b *build) bridge(ctx context.Context, of, program string, agents []string) (*pack, error) {
	p := b.begin("tidemill-bridge", of, `device gateway, rules and streams that speak AWS's protocols
 Devices connect to it by MQTT, its rules and streams take what they send, and
 programs reach it by the APIs of AWS IoT Core, Kinesis and others.
 .
 It is configured by /etc/tidemill/bridge.toml. To purge the package deletes
 all data in /var/lib/tidemill-bridge; to remove it does not.`)
	p.conf("etc/tidemill/bridge.toml", "bridge.toml")
	for _, path := range agents {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(filepath.Base(path), "_")
		processor := path[strings.LastIndexByte(path, '_'):]
		p.put("usr/lib/tidemill/"+name+processor, text, 0o644)
	}
	return b.end(ctx, p, program)
}

// begin is a package of one program, its unit, user and folder. The first line of
// about is its short description.
func (b *build) begin(name, of, about string) *pack {
	short := strings.TrimPrefix(name, "tidemill-")
	p := &pack{name: name, arch: of, deb: deb.Package{
		Control: []deb.Field{{Name: "Package", Value: name}, {Name: "Version", Value: debianVersion(b.version, b.time)},
			{Name: "Architecture", Value: of}, {Name: "Maintainer", Value: maintainer}, {Name: "Depends", Value: needs},
			{Name: "Section", Value: "net"}, {Name: "Priority", Value: "optional"}, {Name: "Homepage", Value: homepage},
			{Name: "Description", Value: about}},
		Scripts: map[string]string{}, Time: b.time, Level: b.level}}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		p.deb.Scripts[script] = string(p.own(short + "." + script))
	}
	p.put("usr/lib/systemd/system/"+name+".service", p.unit(name+".service"), 0o644)
	p.put("usr/lib/sysusers.d/"+name+".conf", usersOf(name, p.unit("tidemill.sysusers")), 0o644)
	p.put("usr/lib/tmpfiles.d/"+name+".conf", p.own(short+".tmpfiles"), 0o644)
	return p
}

// end adds the program and what Debian wants to know of it, and returns the package.
func (b *build) end(ctx context.Context, p *pack, program string) (*pack, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	p.put("usr/bin/"+p.name, text, 0o755)
	// Go's programs are static, and without manual pages: each command tells with -h.
	p.put("usr/share/lintian/overrides/"+p.name, []byte(p.name+": statically-linked-binary [usr/bin/"+p.name+"]\n"),
		0o644)
	if err := b.addDoc(ctx, p, program); err != nil {
		return nil, err
	}
	if p.err != nil {
		return nil, p.err
	}
	return p, nil
}

// usersOf are the lines of tidemill.sysusers that one of the packages needs: no
// other user than its own, and the groups of buses for the agent.
func usersOf(name string, all []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(all)) {
		if strings.HasPrefix(line, "u "+name+" ") || strings.HasPrefix(line, "g ") && name == "tidemill-agent" {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}

func (p *pack) put(name string, text []byte, mode os.FileMode) {
	p.deb.Files = append(p.deb.Files, deb.File{Name: name, Mode: mode, Data: text})
}

func (p *pack) conf(name, from string) {
	p.deb.Files = append(p.deb.Files, deb.File{Name: name, Mode: 0o644, Data: p.own(from), Conf: true})
}

func (p *pack) unit(name string) []byte { return p.read(systemd.Files, name) }
func (p *pack) own(name string) []byte  { return p.read(files, "files/"+name) }

func (p *pack) read(from embed.FS, name string) []byte {
	text, err := from.ReadFile(name)
	if err != nil {
		p.err = err
	}
	return text
}

// tagged is what git describe says at a tag, and after it: v1.2.3, v1.2.3-4-gabcdef.
var tagged = regexp.MustCompile(`^v?([0-9][0-9A-Za-z.]*)(?:-([0-9]+)-(g[0-9a-f]+))?$`)

// debianVersion is a version in Debian's order. Before the first tag it is 0~ and
// the commit's time, which is before every version that has a number.
func debianVersion(version string, at time.Time) string {
	version, dirty := strings.CutSuffix(version, "-dirty")
	v := "0~" + at.UTC().Format("20060102T150405") + "." + notInVersion.ReplaceAllString(version, ".")
	if m := tagged.FindStringSubmatch(version); m != nil && strings.Contains(m[1], ".") {
		if v = m[1]; m[2] != "" {
			v += "+" + m[2] + "." + m[3]
		}
	}
	if dirty {
		v += "+dirty"
	}
	return v + "-1"
}

var notInVersion = regexp.MustCompile(`[^0-9A-Za-z.]+`)
