"""What tests share: people's generations, pictures, servers, services and browsers."""
