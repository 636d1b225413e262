package people

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// argon2id's parameters: 19 MiB, two passes and one thread are OWASP's first choice
// (Password Storage Cheat Sheet). A hash tells its own, so these may grow.
const (
	hashMemory  = 19 << 10 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashSalt    = 16 // bytes (RFC 9106, 3.1)
	hashBytes   = 32

	// What a stored hash may ask for: more would let a damaged row take all memory.
	maxHashMemory  = 256 << 10 // KiB
	maxHashPasses  = 16
	maxHashThreads = 8

	// leastPassword and mostPassword are our choice, in characters and in bytes.
	leastPassword = 12
	mostPassword  = 1024
	// hashesAtOnce bounds the memory of sign-ins: the next ones wait.
	hashesAtOnce = 2
)

// hashPassword returns the PHC string of a password.
func hashPassword(password string) (string, error) {
	if utf8.RuneCountInString(password) < leastPassword || len(password) > mostPassword {
		return "", fmt.Errorf("password: %w: want at least %d characters, and at most %d bytes", registry.ErrInvalid,
			leastPassword, mostPassword)
	}
	salt := make([]byte, hashSalt)
	rand.Read(salt)
	sum := argon2.IDKey([]byte(password), salt, hashPasses, hashMemory, hashThreads, hashBytes)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashPasses, hashThreads,
		encode(salt), encode(sum)), nil
}

// noHash is the hash of no password: who is not there takes as long as who is.
var noHash = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashPasses, hashThreads,
	strings.Repeat("A", 22), strings.Repeat("A", 43))

// checkPassword compares a password with a hash, in a time that does not tell how
// much of it is right.
func checkPassword(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false
	}
	var version, memory, passes, threads int
	if n, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes,
		&threads); n != 4 || err != nil || version != argon2.Version || memory < 8 || memory > maxHashMemory ||
		passes < 1 || passes > maxHashPasses || threads < 1 || threads > maxHashThreads {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 64 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, uint32(passes), uint32(memory), uint8(threads), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

// SignIn returns the rights of a user who knows the password, else errSignIn. It
// waits while others are being asked, until ctx ends.
func (d *Directory) SignIn(ctx context.Context, user, password string) (*Rights, error) {
	select {
	case d.hashes <- struct{}{}:
		defer func() { <-d.hashes }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.RLock()
	u := d.users[user]
	d.mu.RUnlock()
	hash := noHash
	if u != nil && u.password != "" {
		hash = u.password
	}
	if len(password) > mostPassword || !checkPassword(hash, password) || u == nil || u.password == "" {
		return nil, errSignIn
	}
	return u.rights, nil
}
