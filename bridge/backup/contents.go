package backup

import (
	"path"
	"strings"
)

// A Treatment says how what lies in a data directory gets into a backup.
type Treatment int

// The treatments.
const (
	// Cut: as it was at the one instant that the backup is of.
	Cut Treatment = iota
	// Live: as it is when it is read, which is after that instant. It is files that are
	// replaced as a whole or never change.
	Live
	// Left: it is in no backup.
	Left
)

// An Entry is a path of a data directory.
type Entry struct {
	Name      string // as path.Match has it; with a slash at its end a folder with all that is in it
	Treatment Treatment
	Why       string // of what is left, why that loses nothing
}

// contents is all that there is in a data directory. The first entry that fits counts.
// Names of parts are those of a backup, too: its files have the paths that they have
// below the data directory.
var contents = []Entry{
	{Name: "*.new", Treatment: Left, Why: "half written: beside it is the file that counts"},
	{Name: "pki/*.new", Treatment: Left, Why: "likewise"},
	{Name: "identity", Treatment: Cut},
	{Name: "note", Treatment: Cut}, // made for the position of the cut
	{Name: "pki/", Treatment: Cut},
	{Name: "registry.db", Treatment: Cut},
	{Name: "shadow.db", Treatment: Cut},
	{Name: "log/LOCK", Treatment: Left, Why: "empty: it is locked while a program has the log open"},
	{Name: "log/", Treatment: Cut},
	{Name: "broker.json", Treatment: Cut},
	{Name: "seal.json", Treatment: Cut},
	{Name: "secrets/", Treatment: Live},
	{Name: "bridge.d/", Treatment: Live},
	{Name: "lambda/trees/", Treatment: Left, Why: "unpacked anew from lambda/code"},
	{Name: "lambda/runtime/", Treatment: Left, Why: "written at each start"},
	{Name: "lambda/root/", Treatment: Left, Why: "where functions are mounted while they run"},
	{Name: "lambda/logs/", Treatment: Left, Why: "what functions printed, for who looks for a fault now"},
	{Name: "lambda/", Treatment: Live},
	{Name: "s3_failed/.tmp/", Treatment: Left, Why: "half written"},
	{Name: "s3_failed/", Treatment: Live},
	{Name: "objects/.tmp/", Treatment: Left, Why: "half written"},
	{Name: "objects/", Treatment: Live},
	{Name: "lock", Treatment: Left, Why: "empty: it is locked while a program has the directory open"},
	{Name: "admin.sock", Treatment: Left, Why: "the socket of the bridge that runs"},
	{Name: "backup/", Treatment: Left, Why: "what is known of the repository, and a backup under way"},
	{Name: "*.before-*", Treatment: Left, Why: "what a restore of one part replaced"},
	{Name: stageFile, Treatment: Left, Why: "of the restore that made the directory"},
	{Name: "moved", Treatment: Left, Why: "says that the bridge is elsewhere now"},
}

// Treat returns how a path of a data directory gets into a backup; listed is false for
// one that is not known, which is Live. A folder's path has a slash at its end.
func Treat(name string) (t Treatment, listed bool) {
	for _, e := range contents {
		if e.fits(name) {
			return e.Treatment, true
		}
	}
	return Live, false
}

func (e Entry) fits(name string) bool {
	if strings.HasSuffix(e.Name, "/") {
		return strings.HasPrefix(name, e.Name)
	}
	ok, _ := path.Match(e.Name, strings.TrimSuffix(name, "/"))
	return ok
}
