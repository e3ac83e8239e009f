# Run on every machine of a cluster before it is frozen: leaves a process that waits on the machine's report channel, and
# prints its number.  A copy of the machine hears there what makes it a machine of its own:
#
#   time SECONDS            since the epoch
#   random HEX              bytes that no other copy gets
#   file MODE PATH HEX      what a file is from now on (path in hex, too); one that is there keeps its owner and mode
#   end                     that was all: it says READY, or FAIL and why, and is no more
#
# In Perl, which every system that OSCAR runs on has, and because it starts nothing: where machines are emulated, all
# that runs for the first time in a copy has to be translated first, and that is nearly all of the time that a copy takes.
use strict;
use warnings;
use POSIX ();

my $RNDRESEEDCRNG = 0x5207;

# One that nobody has ended, because who froze the machine was killed, has the channel still.
my $note = '/run/oscar-become.pid';
if (open my $file, '<', $note) {
    my ($former) = <$file> =~ /^(\d+)$/;
    if ($former && (readlink("/proc/$former/exe") // '') =~ /perl/) {
        kill 'KILL', $former;
        select undef, undef, undef, 0.1 while -e "/proc/$former/exe";
    }
}

my $port;
for my $file (glob '/sys/class/virtio-ports/*/name') {
    open my $name, '<', $file or next;
    ($port) = $file =~ m{([^/]+)/name$} if <$name> =~ /^org\.xen-oscar\.report$/;
}
defined $port or die "there is no report channel\n";
open my $channel, '+<', "/dev/$port" or die "/dev/$port: $!\n";
defined(my $child = fork) or die "fork: $!\n";
if ($child) {
    open my $file, '>', $note or die "$note: $!\n";
    print $file "$child\n";
    print "$child\n";
    exit 0;
}
POSIX::setsid();
open STDIN, '<', '/dev/null';
open STDOUT, '>', '/dev/null';
open STDERR, '>', '/dev/null';
alarm 900;    # should nobody end it in the machine that was frozen

# systemd may have let go of it by the time that it is wanted.
$SIG{PIPE} = 'IGNORE';
my $systemd = eval { systemd() };
my (%owners, $rest, $has_new_keys, $time, $since);
$rest = '';
eval {
    while (sysread $channel, my $data, 65536) {
        $rest .= $data;
        while ($rest =~ s/^(.*)\n//) {
            my ($word, @given) = split / /, $1;
            if    ($word eq 'time')   { ($time, $since) = ($given[0], uptime()) }
            elsif ($word eq 'random') { reseed(pack 'H*', $given[0]) }
            elsif ($word eq 'file')   { write_file(oct $given[0], pack('H*', $given[1]), pack('H*', $given[2] // '')) }
            elsif ($word eq 'end')    { restart(); set_time($time + uptime() - $since); say_it('READY'); exit 0 }
        }
    }
};
say_it("FAIL it cannot become a machine of its own: $@");

sub say_it {
    my ($line) = @_;
    $line =~ s/\s+/ /g;
    syswrite $channel, "$line\n";
}

sub uptime {
    open my $file, '<', '/proc/uptime' or die "/proc/uptime: $!\n";
    return (split ' ', <$file>)[0];
}

# Last, for much that waits for a time wakes when the clock jumps, and would be in the way of all else.
sub set_time {
    my ($time) = @_;
    my $seconds = int $time;
    my $done = (POSIX::uname())[4] eq 'x86_64'
        && syscall(227, 0, pack 'qq', $seconds, int(($time - $seconds) * 1e9)) == 0;    # clock_settime
    $done or system('date', '-u', '-s', "\@$time") == 0 or die "the clock cannot be set\n";
}

sub reseed {
    my ($bytes) = @_;
    open my $device, '+<', '/dev/urandom' or die "/dev/urandom: $!\n";
    syswrite $device, $bytes;
    ioctl $device, $RNDRESEEDCRNG, 0;    # before Linux 4.14 it does so by itself, within minutes
}

sub write_file {
    my ($mode, $path, $content) = @_;
    my (undef, undef, $old, undef, $user, $group) = stat $path;
    my $new = "$path.new";
    unlink $new;
    sysopen my $file, $new, POSIX::O_WRONLY() | POSIX::O_CREAT() | POSIX::O_EXCL(), 0600 or die "$new: $!\n";
    chown $user, $group, $new if defined $old;
    chmod defined $old ? $old & 07777 : $mode, $new;
    syswrite($file, $content) == length $content or die "$new: $!\n";
    close $file;
    rename $new, $path or die "$path: $!\n";
    $owners{$user} = 1 if $user;
    $has_new_keys = 1 if $path =~ m{^/etc/ssh/ssh_host_};
}

# What runs as somebody whose file has changed is started anew.  So is an sshd that keeps its keys; before OpenSSH 9.8 it
# reads them for each connection.
sub restart {
    my %units;
    for my $process (%owners ? glob '/proc/[0-9]*' : ()) {
        my $user = (stat $process)[4];
        next unless defined $user && $owners{$user};
        open my $groups, '<', "$process/cgroup" or next;
        while (<$groups>) { $units{$1} = 1 if m{/system\.slice/(?:[^/]+/)*([^/]+\.service)$} }
    }
    my $keeps_keys = grep { -e "/usr/$_/openssh/sshd-session" } 'lib', 'libexec';
    if ($has_new_keys && $keeps_keys && open my $file, '<', '/run/sshd.pid') {
        my ($process) = <$file> =~ /^(\d+)$/;
        kill 'HUP', $process if $process;
    }
    return unless %units;
    my $is_done = ($systemd && restarted(keys %units)) || system('systemctl', 'restart', sort keys %units) == 0;
    $is_done or die "services cannot be started anew: @{[sort keys %units]}\n";
}

# A connection to systemd.  It speaks D-Bus, of which so little is needed that systemctl takes longer to begin.
sub systemd {
    socket my $made, 1, 1, 0 or die;    # AF_UNIX, SOCK_STREAM
    connect $made, pack 'S a*', 1, "/run/systemd/private\0" or die;
    syswrite $made, "\0AUTH EXTERNAL 30\r\nBEGIN\r\n" or die;    # user 0
    my $said = '';
    while ($said !~ /\n/) { sysread $made, $said, 1, length $said or die }    # to the line's end, and not beyond
    $said =~ /^OK / or die;
    return $made;
}

# Whether systemd has started these units anew.
sub restarted {
    my %waiting = map { $_ => 1 } @_;
    my $number  = 0;
    for my $unit (@_) {
        my $body   = string($unit) . padding(length string($unit), 4) . string('replace');
        my $fields = '';
        for (
            [1, 'o', string('/org/freedesktop/systemd1')],
            [2, 's', string('org.freedesktop.systemd1.Manager')],
            [3, 's', string('RestartUnit')],
            [8, 'g', "\2ss\0"]
            )
        {
            my ($code, $type, $value) = @$_;
            $fields .= padding(length $fields, 8) . pack('CCaC', $code, 1, $type, 0) . $value;
        }
        my $call = pack('aCCC L<3', 'l', 1, 0, 1, length $body, ++$number, length $fields) . $fields;
        syswrite $systemd, $call . padding(length $call, 8) . $body;
    }
    my $said = '';
    while (%waiting) {
        my ($type, $body, $fields) = length $said >= 16 ? unpack 'x C x2 L< x4 L<', $said : ();
        my $head = 16 + ($fields // 0);
        $head += -$head % 8;
        if (!defined $type || length $said < $head + $body) {
            sysread $systemd, $said, 65536, length $said or return 0;
            next;
        }
        my ($about, $told) = (substr($said, 0, $head), substr $said, $head, $body);
        substr($said, 0, $head + $body) = '';
        return 0 if $type == 3;    # an error
        next unless $type == 4 && $about =~ /\0JobRemoved\0/;    # number, path, unit, result
        my ($unit, $result) = $told =~ /\0([^\0]+)\0+[^\0]\0+([a-z]+)\0\z/ or next;
        return 0 if $waiting{$unit} && $result ne 'done';
        delete $waiting{$unit};
    }
    return 1;
}

sub string {
    my ($text) = @_;
    return pack 'L< a* C', length $text, $text, 0;
}

sub padding {
    my ($length, $to) = @_;
    return "\0" x (-$length % $to);
}
