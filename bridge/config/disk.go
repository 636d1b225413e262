package config

// Disk is what the bridge may take of the disk of DataDir: the one place where room is
// given. Sizes of other sections that nobody set come from here.
type Disk struct {
	Budget    Size `toml:"budget"`    // of all parts together; 0: the file system's
	Reserve   Size `toml:"reserve"`   // that new data leaves free; 0: nothing is refused
	Log       Size `toml:"log"`       // of DataDir/log; 0 of this and the rest: a share, or no limit without Budget
	Outboxes  Size `toml:"outboxes"`  // of all together, in the log
	Objects   Size `toml:"objects"`   // of all buckets together
	Functions Size `toml:"functions"` // of their packages
	Backup    Size `toml:"backup"`    // of what backups keep in DataDir
}

// ofDisk stands for a size that Disk gives. No file can have the number.
const ofDisk Size = -1

// startsWith is what a start needs free at most: the log makes its files ahead of use,
// and writes tables of what it finds in them (streams/pebble: of an earlier
// version four memtables of 32 MiB, and files of 35 MiB).
const startsWith Size = 220 << 20

// shareDisk gives each part of Disk its share where it has none, and other sections
// what nobody set there.
func (c *Config) shareDisk() {
	d := &c.Disk
	for _, part := range []struct {
		at      *Size
		of      Size
		percent Size
	}{
		{&d.Log, d.Budget, 60},
		{&d.Objects, d.Budget, 30},
		{&d.Functions, d.Budget, 5},
		{&d.Backup, d.Budget, 5},
	} {
		if *part.at == 0 {
			*part.at = part.of / 100 * part.percent
		}
	}
	if d.Outboxes == 0 {
		d.Outboxes = d.Log / 4
	}
	for _, s := range []struct {
		at   *Size
		most Size
		of   Size // 0: there is no limit there
	}{
		{&c.Ingest.MaxBytes, 4 << 30, d.Log / 2},
		{&c.Rules.MaxBacklog, 4 << 30, d.Outboxes},
		{&c.Channel.MaxBytes, 4 << 30, d.Log / 8},
		{&c.Audit.MaxBytes, 1 << 30, d.Log / 16},
		{&c.Objects.MaxBucket, 1 << 40, d.Objects},
		{&c.Lambda.MaxCode, 2 << 30, d.Functions},
	} {
		if *s.at == ofDisk {
			if *s.at = s.most; s.of > 0 {
				*s.at = min(s.most, s.of)
			}
		}
	}
	if c.MinFree == ofDisk {
		c.MinFree = min(startsWith, d.Reserve/2)
	}
	if c.Objects.MinFree == ofDisk {
		c.Objects.MinFree = d.Reserve
	}
}
