package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is a file of ELF that has nothing but the section .modinfo.
func module(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	body := info + names
	var b bytes.Buffer
	head := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_AARCH64), Version: 1,
		Shoff: 64 + uint64(len(body)), Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	_ = binary.Write(&b, binary.LittleEndian, head) // a buffer takes all
	b.WriteString(body)
	for _, s := range []elf.Section64{{}, {Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: 64 + uint64(len(info)), Size: uint64(len(names))}} {
		_ = binary.Write(&b, binary.LittleEndian, s)
	}
	return b.Bytes()
}

func TestModules(t *testing.T) {
	dir := t.TempDir()
	for name, info := range map[string]string{
		"kernel/fs/ext4.ko":          "license=GPL\x00depends=jbd2,crc16\x00name=ext4\x00",
		"kernel/fs/jbd2.ko":          "depends=\x00",
		"kernel/lib/crc16.ko":        "name=crc16\x00",
		"kernel/usb/cdc_ether.ko":    "depends=usb-net\x00",
		"kernel/usb/usb-net.ko":      "depends=cdc_ether\x00", // a ring, which no kernel has
		"kernel/usb/half.ko":         "depends=gone\x00",
		"kernel/usb/modules.builtin": "no module",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, module(info), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ names, want, wrong string }{
		{"ext4", "jbd2 crc16 ext4", ""},
		{"crc16 ext4 jbd2", "crc16 jbd2 ext4", ""},
		{"cdc-ether", "usb_net cdc_ether", ""},
		{"i2c-dev", "", "there is no i2c_dev"},
		{"half", "", "half needs there is no gone"},
	} {
		all, err := Modules(dir, strings.Fields(c.names)...)
		var got []string
		for _, m := range all {
			got = append(got, m.Name)
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) && c.wrong == "" {
			t.Errorf("%s: %v, want %v", c.names, got, want)
		}
		if (err != nil) != (c.wrong != "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want %q", c.names, err, c.wrong)
		}
	}
}
