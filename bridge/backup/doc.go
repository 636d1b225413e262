// Package backup knows what a backup of a bridge is: which parts a data directory has
// and how each gets into the repository (Treat), what is said of the bridge beside its
// files (About), and how all of it is taken at one instant while the bridge runs (Take).
//
// Package vault keeps the files, and knows nothing of bridges. README.md is the manual.
package backup
