package streams

func child() bool { return false }
