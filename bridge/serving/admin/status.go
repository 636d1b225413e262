package admin

import (
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
)

// A Status is what there is to say of a bridge at one look.
type Status struct {
	Info
	Started   time.Time       `json:"started"`
	Uptime    backup.Duration `json:"uptime"`
	Directory string          `json:"directory"` // identity of the data directory
	Free      int64           `json:"free"`      // bytes that the disk of the data directory has left
	Room      int64           `json:"room"`      // bytes that it has
	Log       StatusLog       `json:"log"`

	Certificate *StatusCertificate `json:"certificate,omitempty"` // of the bridge's own, that ends first
	Backup      backup.Status      `json:"backup"`
	Trouble     []string           `json:"trouble"` // what is held or wrong, or will be soon
}

// A StatusLog is how much goes into the log.
type StatusLog struct {
	Bytes            int64   `json:"bytes"`   // that all streams hold
	Records          uint64  `json:"records"` // written since the start
	Written          int64   `json:"written"` // their bytes
	RecordsPerSecond float64 `json:"records_per_second"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
}

// A StatusCertificate is one with its end.
type StatusCertificate struct {
	Of       string    `json:"of"` // as of Expiry
	NotAfter time.Time `json:"not_after"`
	Days     int       `json:"days"` // left
}
