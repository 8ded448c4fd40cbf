//go:build !unix

package objstore

import "os"

// Without flock one directory may be written by one process only; its goroutines exclude each other by Dir.mu,
// and the link is exclusive either way.
func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) error { return nil }

func isNotDir(error) bool  { return false }
func isNoSpace(error) bool { return false }
